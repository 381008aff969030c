//! Who is let in with which certificate, what is agreed on before, what is told of it afterwards.

mod forwarded;
mod istio;
mod offered;
mod peers;
mod revoked;
mod staples;
