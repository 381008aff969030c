//! What becomes of the bodies of a request and of its answer: codings, and how much may come.
//!
//! These checks refuse next to nothing: they note what is to be done where bodies pass ([`Bodies`]), and change the head
//! for it.

use std::sync::Arc;

use http::header::{self, HeaderMap};
use naru_base::Reason;
use naru_content::{Accepted, compress};
use naru_spec::{Coder, Compressor, ContentCoding, Decompressor};

use super::{Memory, Refusal, Step};

/// What is to be done with bodies.
#[derive(Debug, Default)]
pub struct Bodies {
    /// What the client accepts.
    accepted: Option<Accepted>,
    /// In the order on the way of the request, with whether the field was still there.
    compressors: Vec<(Arc<Compressor>, bool)>,
    /// The body of the request is read out of a coding.
    pub decode: Option<Decode>,
    /// So much of it is read.
    pub bytes_max: Option<u64>,
}

/// Out of which coding, and how much may come out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decode {
    pub coding: ContentCoding,
    pub bytes_max: u64,
    pub ratio_max: u32,
}

impl Bodies {
    /// Decides about an answer, and changes its head for it.
    pub fn compress(&self, status: u16, headers: &mut HeaderMap, has_ended: bool) -> Option<Coder> {
        let compressors: Vec<(&Compressor, bool)> =
            self.compressors.iter().map(|(one, knows)| (&**one, *knows)).collect();
        compress::begin(&compressors, self.accepted.as_ref()?, status, headers, has_ended)
    }
}

pub(super) fn compressed(settings: &Arc<Compressor>, headers: &mut HeaderMap, memory: &mut Memory) -> Step {
    if settings.is_enabled {
        let bodies = memory.bodies.get_or_insert_default();
        // One before it may have taken the field away.
        if bodies.accepted.is_none() {
            bodies.accepted = Some(Accepted::of(headers));
        }
        let knows = headers.contains_key(header::ACCEPT_ENCODING);
        bodies.compressors.push((Arc::clone(settings), knows));
        if settings.removes_accept_encoding {
            headers.remove(header::ACCEPT_ENCODING);
        }
    }
    Step::Pass
}

/// One coding is taken off a body.
pub(super) fn decompressed(settings: &Decompressor, headers: &mut HeaderMap, memory: &mut Memory) -> Step {
    let is_off = !settings.is_enabled || memory.bodies.as_ref().is_some_and(|bodies| bodies.decode.is_some());
    if is_off {
        return Step::Pass;
    }
    if let Some(coding) = compress::decode(&settings.codings, settings.ignores_no_transform, headers) {
        let Decompressor { bytes_max, ratio_max, .. } = *settings;
        memory.bodies.get_or_insert_default().decode = Some(Decode { coding, bytes_max, ratio_max });
    }
    Step::Pass
}

/// A request that says itself that it is too large goes nowhere.
pub(super) fn bounded(max: u64, headers: &HeaderMap, memory: &mut Memory) -> Step {
    let length =
        headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > max) {
        return Step::Refuse(Box::new(Refusal::of(Reason::BodyTooLarge)));
    }
    let bodies = memory.bodies.get_or_insert_default();
    bodies.bytes_max = Some(bodies.bytes_max.map_or(max, |before| before.min(max)));
    Step::Pass
}
