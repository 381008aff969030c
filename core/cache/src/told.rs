//! What an answer says of how it came about: `Cache-Status` (RFC 9211), and `Age`.

use std::fmt::Write as _;

use http::HeaderValue;

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
        let mut said = String::with_capacity(48);
        said.push_str(name);
        match self.forwarded {
            None => said.push_str("; hit"),
            Some(way) => {
                said.push_str("; fwd=");
                said.push_str(way.token());
            }
        }
        if let Some(status) = self.forwarded_status {
            write!(said, "; fwd-status={status}").ok()?;
        }
        if self.is_stored {
            said.push_str("; stored");
        }
        if self.is_collapsed {
            said.push_str("; collapsed");
        }
        if let Some(ttl) = self.ttl {
            write!(said, "; ttl={ttl}").ok()?;
        }
        if let Some(detail) = self.detail {
            write!(said, "; detail={detail}").ok()?;
        }
        HeaderValue::try_from(said).ok()
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
