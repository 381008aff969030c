//! In which order do the entries of maps stand in bytes? Sorted, so that equal messages are equal bytes.
//!
//! Messages have maps as hash maps, which are gone through in another order each time; protobuf leaves the order of
//! entries open. Versions of resources are made of bytes, though, and who has another version is told once more. So
//! bytes are put in order after they are made, in their place: entries change places, and nothing changes its length.
//! Which fields are maps, and in which messages there are some, is said by descriptors, also of what is packed in an
//! `Any`. What no descriptor is known of stays as it is.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::OnceLock;

use prost::encoding::{WireType, decode_key, decode_varint};
use prost_reflect::{Kind, MessageDescriptor};

use crate::schema::{Schema, type_name};

const ANY: &str = "google.protobuf.Any";
/// Of an `Any`.
const TYPE_URL: u32 = 1;
const VALUE: u32 = 2;
/// Of an entry of a map.
const ENTRY_VALUE: u32 = 2;

/// Puts the bytes of a `google.protobuf.Any` in order, with all that is packed in it.
pub(super) fn arrange(any: &mut [u8]) {
    static SHAPES: OnceLock<Shapes> = OnceLock::new();
    let shapes = SHAPES.get_or_init(|| Shapes::of(&Schema::new()));
    // Where bytes are no message, nothing of it is moved.
    let _ = shapes.any(any);
}

/// What is to be looked at of each kind of message in which there may be a map.
#[derive(Debug)]
struct Shapes {
    by_name: BTreeMap<String, usize>,
    all: Vec<Vec<Part>>,
}

/// A field, by its number.
#[derive(Clone, Copy, Debug)]
struct Part {
    number: u32,
    is_map: bool,
    /// What is within it, or within the values of its entries, where that is to be looked at.
    inner: Option<Inner>,
}

#[derive(Clone, Copy, Debug)]
enum Inner {
    Any,
    Of(usize),
}

impl Shapes {
    fn of(schema: &Schema) -> Shapes {
        let messages: Vec<MessageDescriptor> =
            schema.pool().all_messages().filter(|message| !message.is_map_entry()).collect();
        let places = messages.iter().enumerate().map(|(at, message)| (message.full_name().to_owned(), at));
        let places: BTreeMap<String, usize> = places.collect();
        let inner = |kind: Kind| match kind {
            Kind::Message(message) if message.full_name() == ANY => Some(Inner::Any),
            Kind::Message(message) => places.get(message.full_name()).map(|at| Inner::Of(*at)),
            _ => None,
        };
        let parts = |message: &MessageDescriptor| -> Vec<Part> {
            let fields = message.fields().filter_map(|field| {
                let (number, is_map) = (field.number(), field.is_map());
                let inner = match field.kind() {
                    Kind::Message(entry) if is_map => inner(entry.map_entry_value_field().kind()),
                    kind => inner(kind),
                };
                (is_map || inner.is_some()).then_some(Part { number, is_map, inner })
            });
            let mut parts: Vec<Part> = fields.collect();
            parts.sort_by_key(|part| part.number);
            parts
        };
        let mut all: Vec<Vec<Part>> = messages.iter().map(parts).collect();
        // Messages in which there is no map, however deep, are passed by.
        let mut has_maps = vec![false; all.len()];
        loop {
            let has = |inner: Inner, has_maps: &[bool]| match inner {
                Inner::Any => true,
                Inner::Of(at) => has_maps.get(at).copied().unwrap_or(false),
            };
            let next: Vec<bool> = all
                .iter()
                .map(|parts| {
                    parts
                        .iter()
                        .any(|part| part.is_map || part.inner.is_some_and(|inner| has(inner, &has_maps)))
                })
                .collect();
            if next == has_maps {
                break;
            }
            has_maps = next;
        }
        for parts in &mut all {
            for part in parts.iter_mut() {
                part.inner = part.inner.filter(|inner| match inner {
                    Inner::Any => true,
                    Inner::Of(at) => has_maps.get(*at).copied().unwrap_or(false),
                });
            }
            parts.retain(|part| part.is_map || part.inner.is_some());
        }
        Shapes { by_name: places, all }
    }

    fn inner(&self, bytes: &mut [u8], inner: Inner) -> Option<()> {
        match inner {
            Inner::Any => self.any(bytes),
            Inner::Of(shape) => self.message(bytes, shape),
        }
    }

    fn any(&self, bytes: &mut [u8]) -> Option<()> {
        let (mut shape, mut value, mut at) = (None, None, 0);
        while at < bytes.len() {
            let field = Field::at(bytes, at)?;
            match (field.number, field.payload) {
                (TYPE_URL, Some(payload)) => {
                    let url = std::str::from_utf8(bytes.get(payload)?).ok()?;
                    shape = self.by_name.get(type_name(url)).copied();
                }
                (VALUE, Some(payload)) => value = Some(payload),
                _ => {}
            }
            at = field.end;
        }
        match (shape, value) {
            (Some(shape), Some(value)) => self.message(bytes.get_mut(value)?, shape),
            _ => Some(()),
        }
    }

    fn message(&self, bytes: &mut [u8], shape: usize) -> Option<()> {
        let parts = self.all.get(shape)?;
        let mut at = if parts.is_empty() { bytes.len() } else { 0 };
        // Entries of one map, one beside the other.
        let (mut entries, mut entries_of): (Vec<Range<usize>>, u32) = (Vec::new(), 0);
        while at < bytes.len() {
            let field = Field::at(bytes, at)?;
            let known = parts.binary_search_by_key(&field.number, |part| part.number);
            let part = known.ok().and_then(|at| parts.get(at));
            if field.number != entries_of {
                sort(bytes, &mut entries);
            }
            if let (Some(part), Some(payload)) = (part, field.payload) {
                if part.is_map {
                    entries_of = part.number;
                    entries.push(at..field.end);
                    if let Some(inner) = part.inner {
                        self.entry(bytes.get_mut(payload)?, inner)?;
                    }
                } else if let Some(inner) = part.inner {
                    self.inner(bytes.get_mut(payload)?, inner)?;
                }
            }
            at = field.end;
        }
        sort(bytes, &mut entries);
        Some(())
    }

    fn entry(&self, bytes: &mut [u8], inner: Inner) -> Option<()> {
        let mut at = 0;
        while at < bytes.len() {
            let field = Field::at(bytes, at)?;
            if let (ENTRY_VALUE, Some(payload)) = (field.number, field.payload) {
                self.inner(bytes.get_mut(payload)?, inner)?;
            }
            at = field.end;
        }
        Some(())
    }
}

/// Sorts what stands side by side, by its bytes.
fn sort(bytes: &mut [u8], entries: &mut Vec<Range<usize>>) {
    let entries = std::mem::take(entries);
    let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return };
    let Some(span) = bytes.get_mut(first.start..last.end) else { return };
    let begin = first.start;
    let whole = span.to_vec();
    let each = entries.iter().filter_map(|entry| whole.get(entry.start - begin..entry.end - begin));
    let mut each: Vec<&[u8]> = each.collect();
    if each.is_sorted() {
        return;
    }
    each.sort_unstable();
    let sorted = each.concat();
    if sorted.len() == span.len() {
        span.copy_from_slice(&sorted);
    }
}

/// A field of a message that stands in bytes.
struct Field {
    number: u32,
    /// Of one that has a length.
    payload: Option<Range<usize>>,
    end: usize,
}

impl Field {
    /// `None` where no field begins there.
    fn at(bytes: &[u8], at: usize) -> Option<Field> {
        let mut rest = bytes.get(at..)?;
        let (number, wire) = decode_key(&mut rest).ok()?;
        let length = match wire {
            WireType::Varint => {
                decode_varint(&mut rest).ok()?;
                0
            }
            WireType::SixtyFourBit => 8,
            WireType::ThirtyTwoBit => 4,
            WireType::LengthDelimited => usize::try_from(decode_varint(&mut rest).ok()?).ok()?,
            WireType::StartGroup | WireType::EndGroup => return None,
        };
        let begin = bytes.len() - rest.len();
        let end = begin.checked_add(length).filter(|end| *end <= bytes.len())?;
        Some(Field { number, payload: (wire == WireType::LengthDelimited).then_some(begin..end), end })
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::{Field, arrange};
    use crate::proto::{Any, Struct, Value, core, route, value};
    use crate::schema::pack;

    fn object(count: usize) -> Struct {
        let number = |at: usize| Value { kind: Some(value::Kind::NumberValue(at as f64)) };
        Struct { fields: (0..count).map(|at| (format!("field{at}"), number(at))).collect() }
    }

    /// Maps of maps, maps of messages in an `Any`, and something that nobody has a descriptor of.
    fn said() -> route::RouteConfiguration {
        let nested = Value { kind: Some(value::Kind::StructValue(object(7))) };
        let mut metadata = core::Metadata::default();
        for name in ["one", "two", "three"] {
            let mut fields = object(5);
            fields.fields.insert("nested".to_owned(), nested.clone());
            metadata.filter_metadata.insert(name.to_owned(), fields);
        }
        let packed =
            core::TypedExtensionConfig { name: "x".to_owned(), typed_config: Some(pack(&object(9))) };
        let filters = ["a", "b", "c", "d", "e", "f"].map(|name| (name.to_owned(), pack(&packed)));
        let mut host = route::VirtualHost { name: "host".to_owned(), ..Default::default() };
        host.typed_per_filter_config = filters.into_iter().collect();
        let unknown =
            Any { type_url: "type.googleapis.com/nobody.Knows".to_owned(), value: b"\xff\xff".to_vec() };
        host.typed_per_filter_config.insert("unknown".to_owned(), unknown);
        host.routes = vec![route::Route { metadata: Some(metadata), ..Default::default() }];
        route::RouteConfiguration {
            name: "table".to_owned(),
            virtual_hosts: vec![host],
            ..Default::default()
        }
    }

    fn arranged() -> Vec<u8> {
        let mut bytes = pack(&said()).encode_to_vec();
        arrange(&mut bytes);
        bytes
    }

    #[test]
    fn equal_messages_are_equal_bytes() {
        let first = arranged();
        for _ in 0..20 {
            assert!(arranged() == first);
        }
    }

    #[test]
    fn what_is_arranged_says_the_same() {
        let any = Any::decode(arranged().as_slice()).unwrap();
        let mut read = route::RouteConfiguration::decode(any.value.as_slice()).unwrap();
        let mut expected = said();
        // What is packed has an order of its own.
        for one in [&mut read, &mut expected] {
            for packed in one.virtual_hosts[0].typed_per_filter_config.values_mut() {
                let Ok(inner) = core::TypedExtensionConfig::decode(packed.value.as_slice()) else { continue };
                let inner = inner.typed_config.unwrap();
                assert_eq!(Struct::decode(inner.value.as_slice()).unwrap(), object(9));
                packed.value.clear();
            }
        }
        assert_eq!(read, expected);
    }

    #[test]
    fn entries_stand_in_the_order_of_their_keys() {
        let mut bytes = pack(&object(9)).encode_to_vec();
        arrange(&mut bytes);
        let any = Any::decode(bytes.as_slice()).unwrap();
        let (mut names, mut at) = (Vec::new(), 0);
        while at < any.value.len() {
            let field = Field::at(&any.value, at).unwrap();
            let entry = &any.value[field.payload.unwrap()];
            names.push(entry[2..2 + usize::from(entry[1])].to_vec());
            at = field.end;
        }
        assert!(names.len() == 9 && names.is_sorted(), "{names:?}");
    }

    #[test]
    fn bytes_that_are_no_message_stay_as_they_are() {
        let whole = pack(&said()).encode_to_vec();
        for length in 0..whole.len() {
            let mut cut = whole[..length].to_vec();
            arrange(&mut cut);
            assert!(cut == whole[..length], "{length}");
        }
        let mut other = b"\x0b\x0c\x0d\xff\xff\xff".to_vec();
        arrange(&mut other);
        assert_eq!(other, b"\x0b\x0c\x0d\xff\xff\xff");
    }
}
