//! What becomes of the bodies of a request and of its answer: codings, and how much may come.
//!
//! These checks refuse next to nothing: they note what is to be done where bodies pass ([`Bodies`]), and change the head
//! for it.

use std::sync::Arc;

use http::header::{self, HeaderMap};
use naru_base::Reason;
use naru_content::Accepted;
use naru_content::compress::{self, Decode, Layer, OnWay};
use naru_spec::{Coder, Compressor, Decompressor};

use super::{Memory, Refusal, Step};

/// What is to be done with bodies.
#[derive(Debug, Default)]
pub struct Bodies {
    /// What the client accepts.
    accepted: Option<Accepted>,
    /// In the order on the way of the request.
    way: Vec<Met>,
    /// The body of the request is read out of a coding.
    pub decode: Option<Decode>,
    /// So much of it is read.
    pub bytes_max: Option<u64>,
}

/// Somebody who does something to answers, or to requests.
#[derive(Debug)]
enum Met {
    /// With whether the field was still there.
    Compressor(Arc<Compressor>, bool),
    Decompressor(Arc<Decompressor>),
}

impl Met {
    /// Where answers are its business.
    fn on_way(&self) -> Option<OnWay<'_>> {
        match self {
            Met::Compressor(one, knows) => one.is_enabled.then_some(OnWay::Compress(one, *knows)),
            Met::Decompressor(one) => Some(OnWay::Decompress(one)),
        }
    }
}

impl Bodies {
    /// Decides about an answer, and changes its head for it.
    pub fn on_answer(&self, status: u16, headers: &mut HeaderMap, has_ended: bool) -> Vec<Layer> {
        let way: Vec<OnWay<'_>> = self.way.iter().filter_map(Met::on_way).collect();
        compress::begin(&way, self.accepted.as_ref(), status, headers, has_ended)
    }

    /// Decides about a request that has a body, and changes its head for it.
    pub fn on_request(&self, headers: &mut HeaderMap) -> Option<Coder> {
        let mut compressors = self.way.iter().filter_map(|met| match met {
            Met::Compressor(one, _) => Some(one),
            Met::Decompressor(_) => None,
        });
        compressors.find_map(|one| compress::encode(one, headers))
    }
}

pub(super) fn compressed(settings: &Arc<Compressor>, headers: &mut HeaderMap, memory: &mut Memory) -> Step {
    if settings.is_enabled || settings.requests.is_some() {
        let bodies = memory.bodies.get_or_insert_default();
        // One before it may have taken the field away.
        if bodies.accepted.is_none() {
            bodies.accepted = Some(Accepted::of(headers));
        }
        let knows = headers.contains_key(header::ACCEPT_ENCODING);
        bodies.way.push(Met::Compressor(Arc::clone(settings), knows));
        if settings.is_enabled && settings.removes_accept_encoding {
            headers.remove(header::ACCEPT_ENCODING);
        }
    }
    Step::Pass
}

/// One coding is taken off a body.
pub(super) fn decompressed(
    settings: &Arc<Decompressor>,
    headers: &mut HeaderMap,
    memory: &mut Memory,
) -> Step {
    if let Some(answers) = &settings.answers {
        if answers.is_told {
            compress::advertise(&settings.codings, headers);
        }
        memory.bodies.get_or_insert_default().way.push(Met::Decompressor(Arc::clone(settings)));
    }
    let is_off = !settings.is_enabled || memory.bodies.as_ref().is_some_and(|bodies| bodies.decode.is_some());
    if is_off {
        return Step::Pass;
    }
    if let Some(coding) = compress::decode(&settings.codings, settings.ignores_no_transform, headers) {
        let Decompressor { bytes_max, ratio_max, .. } = **settings;
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
