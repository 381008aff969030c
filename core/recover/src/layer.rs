//! Who retries, where several could?
//!
//! If each of `a`, `b` and `c` tries three times what fails at `d`, then `d` is called 27 times. So
//! only the one nearest to the failure retries:
//!
//! - An answer that was retried, or not because there was too much to retry, says so in
//!   [`RETRIES`]. Nobody further away tries it again.
//! - A request that is a retry says so in [`ATTEMPT`]. Nobody nearer retries what may have reached an
//!   upstream: the caller does so already.
//!
//! Between two of us stands a service, which may carry the headers of a request on but not those of an answer. So
//! whoever gives up says so under the request's [`trace`] as well, to all that share one memory: what was tried again
//! under the same name since a request began was tried nearer to the failure.
//!
//! Both headers are our own, and mean something between naru and naru only: who is not trusted may
//! not say them, and is not told.

use http::{HeaderMap, HeaderName, HeaderValue};

/// Of responses: [`EXHAUSTED`].
pub const RETRIES: HeaderName = HeaderName::from_static("x-naru-retries");
pub const EXHAUSTED: HeaderValue = HeaderValue::from_static("exhausted");
/// Of requests: which attempt it is, from 1. Without it, it is the first.
pub const ATTEMPT: HeaderName = HeaderName::from_static("x-naru-attempt");
/// Of requests: "The Idempotency-Key HTTP Header Field", an Internet-Draft of the HTTPAPI working group.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// A number for the name that a request has on all of its way, `x-request-id`; 0 where it has none.
#[inline]
pub fn trace(headers: &HeaderMap) -> u64 {
    const PRIME: u64 = 0x9e37_79b9_7f4a_7c15;
    let Some(name) = headers.get("x-request-id") else { return 0 };
    let mut words = name.as_bytes().chunks(8);
    let sum = words.try_fold(PRIME, |sum: u64, word| {
        let mut bytes = [0; 8];
        bytes.get_mut(..word.len())?.copy_from_slice(word);
        Some((sum ^ u64::from_le_bytes(bytes)).wrapping_mul(PRIME).rotate_left(29))
    });
    sum.unwrap_or(0)
}

/// Whether an answer says that it was retried already.
pub fn is_exhausted(headers: &HeaderMap) -> bool {
    headers.get(RETRIES) == Some(&EXHAUSTED)
}

/// Whether a request says that it was sent before.
pub fn is_repeat(headers: &HeaderMap) -> bool {
    let attempt = headers.get(ATTEMPT).and_then(|value| value.to_str().ok()?.parse::<u32>().ok());
    attempt.is_some_and(|attempt| attempt > 1)
}

/// What an upstream is told: nothing about a first attempt. A retry of the caller's is one for those behind, too.
pub fn tell_upstream(headers: &mut HeaderMap, retries: u32) {
    if retries > 0 {
        headers.insert(ATTEMPT, HeaderValue::from(retries.saturating_add(1)));
    } else if !is_repeat(headers) {
        headers.remove(ATTEMPT);
    }
}

/// What the caller is told about an answer: see [`crate::Done::is_told`].
pub fn tell_caller(headers: &mut HeaderMap, is_exhausted: bool) {
    if is_exhausted {
        headers.insert(RETRIES, EXHAUSTED);
    }
}

/// Takes out what somebody said who is not trusted, and what is not for such a one.
pub fn forget(headers: &mut HeaderMap) {
    headers.remove(ATTEMPT);
    headers.remove(RETRIES);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_a_number() {
        let of = |name: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("x-request-id", HeaderValue::from_static(name));
            trace(&headers)
        };
        assert_eq!(trace(&HeaderMap::new()), 0);
        assert_eq!(of("5f6b1c0e-35a1-4b1c-9d3c-6b1a3c5d7e9f"), of("5f6b1c0e-35a1-4b1c-9d3c-6b1a3c5d7e9f"));
        let names =
            ["5f6b1c0e-35a1-4b1c-9d3c-6b1a3c5d7e9f", "5f6b1c0e-35a1-4b1c-9d3c-6b1a3c5d7e9e", "1", "2"];
        let numbers: std::collections::BTreeSet<u64> = names.into_iter().map(of).collect();
        assert_eq!(numbers.len(), names.len());
    }

    #[test]
    fn what_is_said_is_understood() {
        let mut headers = HeaderMap::new();
        assert!(!is_repeat(&headers) && !is_exhausted(&headers));
        tell_upstream(&mut headers, 0);
        assert!(headers.is_empty(), "a first attempt says nothing");
        tell_upstream(&mut headers, 1);
        assert!(is_repeat(&headers));
        assert_eq!(headers.get(ATTEMPT).unwrap(), "2");
        tell_upstream(&mut headers, 0);
        assert!(is_repeat(&headers), "a retry of the caller's stays one");
        tell_caller(&mut headers, false);
        assert!(!is_exhausted(&headers));
        tell_caller(&mut headers, true);
        assert!(is_exhausted(&headers));
        forget(&mut headers);
        assert!(headers.is_empty());
        headers.insert(ATTEMPT, HeaderValue::from_static("many"));
        tell_upstream(&mut headers, 0);
        assert!(headers.is_empty(), "nonsense is not passed on");
    }
}
