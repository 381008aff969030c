//! How is what a control plane has said written down, for a process that begins while it is away?
//!
//! Behind what kind of file it is stand records, each with its length and a sum over it before it. The first has all that
//! was known, each other one what was another later: for each kind a message with its length before it, a response of
//! delta, with the version of the kind, the resources that are there with theirs, and the names of those that are gone.
//! One more, with a nonce of its own, has the names of tables that have no virtual hosts, all of them.
//!
//! Records are added to the end. Where the last is not whole, since whoever wrote it was killed meanwhile, those before
//! say what was known then.

use std::collections::BTreeMap;

use prost::Message;

use super::known::Held;
use super::{DeltaDiscoveryResponse, Kind, Resource};

const HEAD: &[u8; 8] = b"naruxds2";
/// One record, which has the rest of the file; what a table without virtual hosts is called stands among what is gone.
const HEAD_BEFORE: &[u8; 8] = b"naruxds1";
/// Of the message that names tables without virtual hosts.
const GONE: &str = "gone";

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

/// What is known of a kind, or is another: its version, resources, and the names of what is there no longer.
#[derive(Clone, Debug)]
pub(super) struct OfKind {
    pub kind: Kind,
    pub version: String,
    pub resources: Vec<Resource>,
    pub removed: Vec<String>,
}

/// What was known.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// None of them is removed.
    pub kinds: Vec<OfKind>,
    /// Tables that have no virtual hosts.
    pub gone: Vec<String>,
}

/// The beginning of a file: all that is known.
pub(super) fn whole(kinds: impl Iterator<Item = OfKind>, gone: Vec<String>) -> Vec<u8> {
    let mut bytes = HEAD.to_vec();
    bytes.extend(record(kinds, gone));
    bytes
}

/// What is another since the record before.
pub(super) fn record(kinds: impl Iterator<Item = OfKind>, gone: Vec<String>) -> Vec<u8> {
    let said = kinds.map(|OfKind { kind, version, resources, removed }| DeltaDiscoveryResponse {
        system_version_info: version,
        resources,
        removed_resources: removed,
        type_url: kind.type_url().to_owned(),
        ..Default::default()
    });
    let gone = DeltaDiscoveryResponse {
        removed_resources: gone,
        type_url: Kind::VirtualHost.type_url().to_owned(),
        nonce: GONE.to_owned(),
        ..Default::default()
    };
    let mut body = Vec::new();
    for message in said.chain([gone]) {
        // A vector takes all that it is given.
        let _ = message.encode_length_delimited(&mut body);
    }
    let mut bytes = (body.len() as u64).to_be_bytes().to_vec();
    bytes.extend(sum(&body).to_be_bytes());
    bytes.extend(body);
    bytes
}

/// `None` where it is something else, or its beginning is not what was written.
pub(super) fn read(bytes: &[u8]) -> Option<Kept> {
    let mut kinds = Kinds::default();
    if let Some(rest) = bytes.strip_prefix(HEAD_BEFORE) {
        let (said, body) = rest.split_first_chunk::<8>()?;
        if u64::from_be_bytes(*said) != sum(body) {
            return None;
        }
        kinds.take(body)?;
        let hosts = kinds.of.get_mut(&Kind::VirtualHost);
        kinds.gone = hosts.map(|one| std::mem::take(&mut one.removed)).unwrap_or_default();
        return Some(kinds.into_kept());
    }
    let (body, mut rest) = split_record(bytes.strip_prefix(HEAD)?)?;
    kinds.take(body)?;
    while let Some((body, more)) = split_record(rest) {
        kinds.take(body)?;
        rest = more;
    }
    Some(kinds.into_kept())
}

/// The body of the first record, and what is behind it; `None` where it is not whole.
fn split_record(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<8>()?;
    let (said, rest) = rest.split_first_chunk::<8>()?;
    let length = usize::try_from(u64::from_be_bytes(*length)).ok()?;
    let (body, rest) = rest.split_at_checked(length)?;
    (u64::from_be_bytes(*said) == sum(body)).then_some((body, rest))
}

/// What is known after some records.
#[derive(Debug, Default)]
struct Kinds {
    of: BTreeMap<Kind, One>,
    gone: Vec<String>,
}

#[derive(Debug, Default)]
struct One {
    version: String,
    resources: BTreeMap<String, Resource>,
    removed: Vec<String>,
}

impl Kinds {
    fn take(&mut self, mut body: &[u8]) -> Option<()> {
        while !body.is_empty() {
            let said = DeltaDiscoveryResponse::decode_length_delimited(&mut body).ok()?;
            let kind = Kind::of_url(&said.type_url)?;
            if said.nonce == GONE {
                self.gone = said.removed_resources;
                continue;
            }
            let one = self.of.entry(kind).or_default();
            one.version = said.system_version_info;
            for name in &said.removed_resources {
                one.resources.remove(name);
            }
            one.resources.extend(said.resources.into_iter().map(|said| (said.name.clone(), said)));
            one.removed = said.removed_resources;
        }
        Some(())
    }

    fn into_kept(self) -> Kept {
        let kinds = self.of.into_iter().map(|(kind, one)| OfKind {
            kind,
            version: one.version,
            resources: one.resources.into_values().collect(),
            removed: Vec::new(),
        });
        Kept { kinds: kinds.collect(), gone: self.gone }
    }
}

/// FNV-1a, 64 bits: against a file that was cut off or overwritten, and not against anybody.
fn sum(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::{HEAD_BEFORE, Kept, OfKind, read, record, sum, whole};
    use crate::discovery::{DeltaDiscoveryResponse, Kind, Resource};

    fn said(kind: Kind, version: &str, names: &[&str], removed: &[&str]) -> OfKind {
        let resources = names.iter().map(|name| Resource {
            name: (*name).to_owned(),
            version: version.to_owned(),
            ..Default::default()
        });
        let removed = removed.iter().map(|name| (*name).to_owned()).collect();
        OfKind { kind, version: version.to_owned(), resources: resources.collect(), removed }
    }

    /// In words.
    fn told(kept: &Kept) -> String {
        let kinds = kept.kinds.iter().map(|one| {
            let all = one.resources.iter().map(|said| format!("{}={}", said.name, said.version));
            format!("{}@{}: {}", one.kind, one.version, all.collect::<Vec<_>>().join(" "))
        });
        format!("{}; gone {}", kinds.collect::<Vec<_>>().join(", "), kept.gone.join(" "))
    }

    fn file() -> (Vec<u8>, [(usize, &'static str); 3]) {
        let first = [said(Kind::Cluster, "1", &["a", "b"], &[]), said(Kind::VirtualHost, "1", &["t/x"], &[])];
        let mut bytes = whole(first.into_iter(), vec!["u".to_owned()]);
        let one = bytes.len();
        bytes.extend(record([said(Kind::Cluster, "2", &["b", "c"], &["a"])].into_iter(), Vec::new()));
        let two = bytes.len();
        let last = [said(Kind::Secret, "7", &["s"], &[]), said(Kind::VirtualHost, "3", &[], &["t/x"])];
        bytes.extend(record(last.into_iter(), vec!["t".to_owned()]));
        let ends = [
            (one, "clusters@1: a=1 b=1, virtual hosts@1: t/x=1; gone u"),
            (two, "clusters@2: b=2 c=2, virtual hosts@1: t/x=1; gone "),
            (bytes.len(), "clusters@2: b=2 c=2, secrets@7: s=7, virtual hosts@3: ; gone t"),
        ];
        (bytes, ends)
    }

    #[test]
    fn a_file_that_ends_anywhere_says_what_was_known_at_its_last_whole_record() {
        let (bytes, ends) = file();
        for length in 0..=bytes.len() {
            let expected = ends.iter().rfind(|(end, _)| *end <= length).map(|(_, told)| (*told).to_owned());
            assert_eq!(read(&bytes[..length]).as_ref().map(told), expected, "{length} of {}", bytes.len());
            // Of a file that was made longer before it was written, the rest is nothing.
            let mut long = bytes[..length].to_vec();
            long.extend([0; 64]);
            assert_eq!(read(&long).as_ref().map(told), expected, "{length} and nothing");
        }
    }

    #[test]
    fn a_record_in_which_a_byte_is_another_is_none_and_neither_is_what_follows() {
        let (bytes, ends) = file();
        for at in 0..bytes.len() {
            let mut turned = bytes.clone();
            turned[at] ^= 1;
            let expected = ends.iter().rfind(|(end, _)| *end <= at).map(|(_, told)| (*told).to_owned());
            assert_eq!(read(&turned).as_ref().map(told), expected, "{at}");
        }
    }

    #[test]
    fn a_file_as_it_was_written_before_is_read() {
        let message = DeltaDiscoveryResponse {
            system_version_info: "4".to_owned(),
            resources: said(Kind::VirtualHost, "2", &["t/x"], &[]).resources,
            removed_resources: vec!["u".to_owned()],
            type_url: Kind::VirtualHost.type_url().to_owned(),
            ..Default::default()
        };
        let body = message.encode_length_delimited_to_vec();
        let bytes = [HEAD_BEFORE.as_slice(), &sum(&body).to_be_bytes(), &body].concat();
        assert_eq!(told(&read(&bytes).unwrap()), "virtual hosts@4: t/x=2; gone u");
        assert!(read(&bytes[..bytes.len() - 1]).is_none());
    }
}
