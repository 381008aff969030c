//! How is what a control plane has said written down, for a process that begins while it is away?
//!
//! For each kind a message with its length before it: a response of delta, with the version of the kind, all resources
//! with theirs, and tables that have no virtual hosts. A sum over all of it stands at the head, behind what kind of file it is.

use prost::Message;

use super::known::Held;
use super::{DeltaDiscoveryResponse, Kind, Resource};

const HEAD: &[u8; 8] = b"naruxds1";

impl Held {
    pub(super) fn as_resource(&self) -> Resource {
        Resource {
            name: self.name.clone(),
            version: self.version.clone(),
            resource: Some(self.any.clone()),
            ..Default::default()
        }
    }
}

/// A kind, its version, its resources, and what is known not to be there.
pub(super) type OfKind = (Kind, String, Vec<Resource>, Vec<String>);

pub(super) fn write(kinds: impl Iterator<Item = OfKind>) -> Vec<u8> {
    let mut body = Vec::new();
    for (kind, version, resources, removed_resources) in kinds {
        let message = DeltaDiscoveryResponse {
            system_version_info: version,
            resources,
            removed_resources,
            type_url: kind.type_url().to_owned(),
            ..Default::default()
        };
        // A vector takes all that it is given.
        let _ = message.encode_length_delimited(&mut body);
    }
    let mut bytes = HEAD.to_vec();
    bytes.extend(sum(&body).to_be_bytes());
    bytes.extend(body);
    bytes
}

/// `None` where it is something else, or not what was written.
pub(super) fn read(bytes: &[u8]) -> Option<Vec<OfKind>> {
    let rest = bytes.strip_prefix(HEAD)?;
    let (said, mut body) = rest.split_first_chunk::<8>()?;
    if u64::from_be_bytes(*said) != sum(body) {
        return None;
    }
    let mut kinds = Vec::new();
    while !body.is_empty() {
        let message = DeltaDiscoveryResponse::decode_length_delimited(&mut body).ok()?;
        let kind = Kind::of_url(&message.type_url)?;
        kinds.push((kind, message.system_version_info, message.resources, message.removed_resources));
    }
    Some(kinds)
}

/// FNV-1a, 64 bits: against a file that was cut off or overwritten, and not against anybody.
fn sum(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
