//! Which of two groups takes a request: the one for reads, or the one for writes?
//!
//! Groups are scaled apart, and what is read may be behind what was written. [`ReadYourWrites`] is what a client may
//! rely on all the same: after a write, its session reads from the group for writes for a set time.

use std::time::Duration;

use http::{HeaderName, Method};

use crate::{Cookie, Invalid, StringMatch, defaults};

/// The two groups of a rule that forwards. One that is not said is the rule's own clusters, by their weights.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ReadWriteGroups {
    pub read: Option<String>,
    pub write: Option<String>,
    /// `None`: all but GET, HEAD, OPTIONS and TRACE, which are safe (RFC 9110, section 9.2.1).
    pub write_methods: Option<Vec<Method>>,
    /// Of the path without its query. They go before methods, those of writes first.
    pub write_paths: Vec<StringMatch>,
    pub read_paths: Vec<StringMatch>,
    pub read_your_writes: Option<ReadYourWrites>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadYourWrites {
    /// From the head of the answer to the write.
    lasts: Duration,
    session: SessionKey,
}

/// What tells the requests of one session from others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionKey {
    /// A client is given it with the answer to a write, and is in its session as long as it brings it back.
    Cookie(Cookie),
    /// Requests with the same value are of the same session.
    Header {
        name: HeaderName,
        /// Sessions of another scope are others, also where their values are equal.
        scope: String,
    },
}

impl ReadWriteGroups {
    /// The clusters that they lead to.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.read.iter().chain(&self.write).map(String::as_str)
    }
}

impl ReadYourWrites {
    /// # Errors
    /// It lasts no time, or longer than [`defaults::READ_YOUR_WRITES_MAX`].
    pub fn by_header(
        lasts: Duration,
        name: HeaderName,
        scope: impl Into<String>,
    ) -> Result<ReadYourWrites, Invalid> {
        check(lasts)?;
        Ok(ReadYourWrites { lasts, session: SessionKey::Header { name, scope: scope.into() } })
    }

    /// A cookie lasts whole seconds; what is over a second is one more.
    ///
    /// # Errors
    /// As above, or the name cannot be that of a cookie.
    pub fn by_cookie(lasts: Duration, name: impl Into<String>) -> Result<ReadYourWrites, Invalid> {
        check(lasts)?;
        let seconds = lasts.as_secs() + u64::from(lasts.subsec_nanos() > 0);
        let cookie = Cookie::new(name, Some(Duration::from_secs(seconds)), "/", Vec::new())?;
        Ok(ReadYourWrites { lasts, session: SessionKey::Cookie(cookie) })
    }

    pub fn lasts(&self) -> Duration {
        self.lasts
    }

    pub fn session(&self) -> &SessionKey {
        &self.session
    }
}

fn check(lasts: Duration) -> Result<(), Invalid> {
    let max = defaults::READ_YOUR_WRITES_MAX;
    if lasts < Duration::from_millis(1) || lasts > max {
        return Err(Invalid::new(format!("a session cannot read its writes for {lasts:?}")).hint(format!(
            "1ms to {}h; as long as what is written takes to be read",
            max.as_secs() / 3_600
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_neither_nothing_nor_for_ever_and_a_cookie_lasts_whole_seconds() {
        let ttl = |millis| {
            let said = ReadYourWrites::by_cookie(Duration::from_millis(millis), "wrote").ok()?;
            assert_eq!(said.lasts(), Duration::from_millis(millis));
            match said.session {
                SessionKey::Cookie(cookie) => cookie.ttl().map(|ttl| ttl.as_millis()),
                SessionKey::Header { .. } => None,
            }
        };
        assert_eq!(ttl(0), None);
        assert_eq!(ttl(1), Some(1_000));
        assert_eq!(ttl(5_000), Some(5_000));
        assert_eq!(ttl(5_001), Some(6_000));
        assert_eq!(ttl(3_600_000), Some(3_600_000));
        assert_eq!(ttl(3_600_001), None);
        assert!(ReadYourWrites::by_cookie(Duration::from_secs(5), "a b").is_err());
        let header = HeaderName::from_static("x-session");
        assert!(ReadYourWrites::by_header(Duration::ZERO, header.clone(), "").is_err());
        assert!(ReadYourWrites::by_header(Duration::from_secs(5), header, "").is_ok());
    }
}
