//! Istio's `Gateway`, with what is ours of it: whether its servers of HTTPS speak HTTP/3, too. Istio has no field for that,
//! only a setting of all of its control plane; so it is an annotation, and the document stays one of Istio's.

use naru_resource::{Flag, Gateway, Placed};
use naru_spec::{Path, code};

use crate::kind::field;
use crate::read::{Fields, Read, Reader};
use crate::tree::{Kind, Node};

const OWN: &str = "naru.dev/";
const HTTP3: &str = "naru.dev/http3";

impl Read for Gateway {
    fn read(node: &Node, path: &Path<'_>, reader: &mut Reader<'_>) -> Option<Gateway> {
        let http3 = annotation(node, path, reader);
        let mut fields = Fields::of(node, path, reader)?;
        let place = fields.place(reader);
        fields.pass_by(&["apiVersion", "kind", "status"], reader);
        let (meta, spec) = (fields.take("metadata", reader), fields.take("spec", reader));
        fields.finish(reader);
        Some(Gateway { place, meta: meta?, http3: http3?, is_api: false, spec: spec? })
    }
}

/// `None` where it is told why there is none.
fn annotation(node: &Node, path: &Path<'_>, reader: &mut Reader<'_>) -> Option<Option<Flag>> {
    let annotations = field(node, "metadata").and_then(|metadata| field(metadata, "annotations"));
    let Some(Kind::Map(entries)) = annotations.map(|node| &node.kind) else { return Some(None) };
    let path = path.field("metadata.annotations");
    let (mut said, mut is_read) = (None, true);
    for entry in entries.iter().filter(|entry| entry.key.starts_with(OWN)) {
        let path = path.field(&entry.key);
        if entry.key != HTTP3 {
            let message = format!("a Gateway has no annotation '{}'", entry.key);
            let hint = format!("{HTTP3} is the one that there is");
            reader.error(code::UNKNOWN_FIELD, entry.key_position, &path, message, hint);
            continue;
        }
        let value = match &entry.node.kind {
            Kind::Text(text) if text == "true" => true,
            Kind::Text(text) if text == "false" => false,
            Kind::Text(text) => {
                let message = format!("'{text}' is neither 'true' nor 'false'");
                reader.error(code::INVALID_VALUE, entry.node.position, &path, message, "");
                is_read = false;
                continue;
            }
            _ => {
                reader.wrong_type(&entry.node, &path, "text");
                is_read = false;
                continue;
            }
        };
        said = Some(Placed { value, place: reader.place(entry.node.position) });
    }
    is_read.then_some(said)
}
