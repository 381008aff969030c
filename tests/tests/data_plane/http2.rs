//! HTTP/2, frame for frame: what the standard asks, what hostile peers send, what passes through.

mod conformance;
mod floods;
mod forwarding;
mod heard;
mod interims;
