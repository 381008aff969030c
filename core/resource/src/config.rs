//! Kubernetes' `ConfigMap`, `Secret`, `Namespace` and `Pod`.

use std::fmt;

use crate::{Meta, Place, Text};

objects! {
    ConfigMap {
        meta: Meta,
        data: Vec<(Text, Text)>,
    }

    Secret {
        meta: Meta,
        kind: Option<Text>,
        data: Vec<(Text, Hidden)>,
    }

    Namespace {
        meta: Meta,
    }

    /// What runs in a cluster: of interest for its labels.
    Pod {
        meta: Meta,
    }
}

/// A value that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Hidden(pub Vec<u8>);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hidden(..)")
    }
}
