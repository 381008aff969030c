//! Which documents are there twice?
//!
//! Kubernetes knows one object of a kind, a namespace and a name, whatever the version of its group that it is written in.

use std::collections::BTreeMap;

use crate::{Meta, Place};

/// A document of a kind, a namespace and a name that another one has before it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Repeated<'a> {
    pub kind: &'static str,
    pub meta: &'a Meta,
    /// The name of the first.
    pub first: Place,
}

impl Repeated<'_> {
    /// As [`Meta::full_name`], without a namespace where the kind has none.
    pub fn full_name(&self) -> String {
        match is_of_cluster(self.kind) {
            true => self.meta.name.value.clone(),
            false => self.meta.full_name(),
        }
    }
}

/// Kinds that have no namespace.
fn is_of_cluster(kind: &str) -> bool {
    matches!(kind, "Namespace" | "GatewayClass")
}

/// Those of one list that are there again.
pub(crate) fn of_list<'a>(
    kind: &'static str,
    list: impl Iterator<Item = &'a Meta>,
) -> impl Iterator<Item = Repeated<'a>> {
    let mut known = BTreeMap::new();
    let has_namespace = !is_of_cluster(kind);
    // One without a name was told, and is nobody's double.
    list.filter(|meta| !meta.name.is_empty()).filter_map(move |meta| {
        let namespace = if has_namespace { meta.namespace() } else { "" };
        let first = *known.entry((namespace, meta.name.value.as_str())).or_insert(meta.name.place);
        (first != meta.name.place).then_some(Repeated { kind, meta, first })
    })
}
