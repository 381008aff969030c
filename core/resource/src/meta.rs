//! What documents of all kinds have in common.

use crate::{Number, Place, Text};

/// The namespace of a document that names none.
pub const DEFAULT_NAMESPACE: &str = "default";

objects! {
    /// Name, namespace and labels.
    Meta {
        name: Text,
        namespace: Option<Text>,
        labels: Vec<(Text, Text)>,
        /// When Kubernetes made it: of two documents that ask for the same, the older has it.
        created: Option<Text>,
        /// The how manieth change of it Kubernetes has counted.
        generation: Option<Number>,
        /// The annotation `networking.istio.io/exportTo`, which a Service has.
        export_to: Option<Text>,
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
    /// Of a path: whole segments. Only the Gateway API can say it.
    Segments(String),
    /// `{}`: it only has to be there.
    Present,
}

impl Meta {
    /// Who comes first where several ask for the same: the older, then by name and namespace, as in Istio. What says
    /// nothing of when it was made comes behind what does.
    pub fn precedence(&self) -> (bool, &str, &str, &str) {
        let created = self.created.as_ref().map_or("", |created| created.as_str());
        (self.created.is_none(), created, &self.name, self.namespace())
    }

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
