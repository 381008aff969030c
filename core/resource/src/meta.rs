//! What documents of all kinds have in common.

use crate::{Place, Text};

/// The namespace of a document that names none.
pub const DEFAULT_NAMESPACE: &str = "default";

objects! {
    /// Name, namespace and labels.
    Meta {
        name: Text,
        namespace: Option<Text>,
        labels: Vec<(Text, Text)>,
    }

    /// A test of a text: Istio's `StringMatch`.
    StringMatch {
        test: Test,
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Test {
    Exact(String),
    Prefix(String),
    Regex(String),
    /// `{}`: it only has to be there.
    Present,
}

impl Meta {
    pub fn namespace(&self) -> &str {
        self.namespace.as_ref().map_or(DEFAULT_NAMESPACE, |namespace| namespace)
    }

    /// `reviews.default`, as Istio writes it.
    pub fn full_name(&self) -> String {
        format!("{}.{}", self.name.value, self.namespace())
    }
}

/// Whether labels have all that a selector asks for.
pub fn selects(selector: &[(Text, Text)], labels: &[(Text, Text)]) -> bool {
    selector.iter().all(|(key, value)| {
        labels.iter().any(|(name, found)| name.value == key.value && found.value == value.value)
    })
}
