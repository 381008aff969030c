//! What is done to the headers of a request or a response.

use http::HeaderName;

use crate::{Format, Invalid};

/// Removals come first, then the additions in order.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct HeaderOps {
    pub remove: Vec<HeaderName>,
    pub add: Vec<HeaderOp>,
}

impl HeaderOps {
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.add.is_empty()
    }

    /// The proxy's own headers cannot be taken away: `host` and names that begin with a colon.
    pub fn check_removable(name: &HeaderName) -> Result<(), Invalid> {
        if name == http::header::HOST {
            return Err(Invalid::new("the Host header cannot be removed")
                .hint("rewrite it instead: host_rewrite_literal"));
        }
        Ok(())
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct HeaderOp {
    pub name: HeaderName,
    pub value: Format,
    pub action: HeaderAction,
    /// A value that comes out empty is added all the same.
    pub keep_empty: bool,
}

/// Envoy's `HeaderAppendAction`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderAction {
    /// One more value, beside those that are there.
    Append,
    AddIfAbsent,
    Overwrite,
    OverwriteIfPresent,
}
