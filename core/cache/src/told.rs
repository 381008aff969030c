//! What an answer says of how it came about: `Cache-Status` (RFC 9211), and `Age`.

use http::HeaderValue;
use naru_base::text;

use crate::shelf::Way;

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// Absent where it was answered from what is kept.
    pub forwarded: Option<Way>,
    /// What the origin answered, where the client is given something else.
    pub forwarded_status: Option<u16>,
    /// What came is kept.
    pub is_stored: bool,
    /// Another request fetched it.
    pub is_collapsed: bool,
    /// How much longer it is fresh, in seconds.
    pub ttl: Option<i64>,
    /// Where it was, if not in memory.
    pub detail: Option<&'static str>,
}

impl Told {
    /// For the proxy of this name, which must be a token.
    pub fn value(&self, name: &str) -> Option<HeaderValue> {
        let mut said = Vec::with_capacity(64);
        self.write(name, &mut said);
        HeaderValue::try_from(said).ok()
    }

    /// Appends what [`Told::value`] is.
    pub fn write(&self, name: &str, said: &mut Vec<u8>) {
        said.extend_from_slice(name.as_bytes());
        match self.forwarded {
            None => said.extend_from_slice(b"; hit"),
            Some(way) => {
                said.extend_from_slice(b"; fwd=");
                said.extend_from_slice(way.token().as_bytes());
            }
        }
        if let Some(status) = self.forwarded_status {
            said.extend_from_slice(b"; fwd-status=");
            text::number(said, u64::from(status));
        }
        if self.is_stored {
            said.extend_from_slice(b"; stored");
        }
        if self.is_collapsed {
            said.extend_from_slice(b"; collapsed");
        }
        if let Some(ttl) = self.ttl {
            said.extend_from_slice(if ttl < 0 { &b"; ttl=-"[..] } else { b"; ttl=" });
            text::number(said, ttl.unsigned_abs());
        }
        if let Some(detail) = self.detail {
            said.extend_from_slice(b"; detail=");
            said.extend_from_slice(detail.as_bytes());
        }
    }
}

pub fn age_value(age: u32) -> HeaderValue {
    HeaderValue::from(age)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_as_the_rfc_says_it() {
        let hit = Told {
            forwarded: None,
            forwarded_status: None,
            is_stored: false,
            is_collapsed: false,
            ttl: Some(376),
            detail: None,
        };
        assert_eq!(hit.value("naru").expect("a value"), "naru; hit; ttl=376");
        let shared = Told { detail: Some("redis"), ..hit };
        assert_eq!(shared.value("naru").expect("a value"), "naru; hit; ttl=376; detail=redis");
        let miss = Told {
            forwarded: Some(Way::Stale),
            forwarded_status: Some(304),
            is_stored: true,
            ttl: Some(-1),
            ..hit
        };
        assert_eq!(miss.value("naru").expect("a value"), "naru; fwd=stale; fwd-status=304; stored; ttl=-1");
        let collapsed = Told {
            forwarded: Some(Way::UriMiss),
            forwarded_status: None,
            is_collapsed: true,
            ttl: None,
            ..hit
        };
        assert_eq!(collapsed.value("naru").expect("a value"), "naru; fwd=uri-miss; collapsed");
    }
}
