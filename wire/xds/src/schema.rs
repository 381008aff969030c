//! What messages there are in Envoy's API: descriptors for reading and printing by reflection.
//!
//! Decoded when a document is to be read or printed, and dropped after: it takes some megabytes
//! that a running proxy has no use for.

use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, ReflectMessage};

use crate::proto::Any;

/// See `descriptors/NOTICE`; made by `examples/trim_descriptors.rs`.
static DESCRIPTORS: &[u8] = include_bytes!("../descriptors/envoy.bin");

/// The descriptors of the messages that a bootstrap may hold. Make one, use it for as many
/// documents as there are, drop it.
#[derive(Clone, Debug)]
pub struct Schema {
    pool: DescriptorPool,
}

impl Schema {
    #[expect(clippy::new_without_default, reason = "it costs milliseconds and megabytes")]
    pub fn new() -> Schema {
        let pool = DescriptorPool::decode(DESCRIPTORS).expect("the committed descriptors are valid");
        Schema { pool }
    }

    pub(crate) fn pool(&self) -> &DescriptorPool {
        &self.pool
    }

    pub(crate) fn message(&self, full_name: &str) -> MessageDescriptor {
        self.pool
            .get_message_by_name(full_name)
            .expect("the committed descriptors hold every message we read")
    }

    /// Takes a message that prost knows by type to one that is known by its descriptor.
    pub(crate) fn reflect<M: prost::Message + prost::Name>(&self, message: &M) -> Option<DynamicMessage> {
        DynamicMessage::decode(self.message(&M::full_name()), message.encode_to_vec().as_slice()).ok()
    }
}

/// Unpacks a message of unknown type; `None` where the type is not known or the bytes are broken.
pub(crate) fn unpack_dynamic(any: &DynamicMessage) -> Option<DynamicMessage> {
    let type_url = any.get_field_by_name("type_url")?;
    let value = any.get_field_by_name("value")?;
    let descriptor = any.descriptor().parent_pool().get_message_by_name(type_name(type_url.as_str()?))?;
    DynamicMessage::decode(descriptor, value.as_bytes()?.clone()).ok()
}

pub(crate) fn unpack<M: prost::Message + prost::Name + Default>(any: &Any) -> Option<M> {
    (type_name(&any.type_url) == M::full_name()).then(|| M::decode(any.value.as_slice()).ok()).flatten()
}

pub(crate) fn pack<M: prost::Message + prost::Name>(message: &M) -> Any {
    Any { type_url: format!("type.googleapis.com/{}", M::full_name()), value: message.encode_to_vec() }
}

/// The full name of the message that a type URL names.
pub(crate) fn type_name(url: &str) -> &str {
    url.rsplit_once('/').map_or(url, |(_, name)| name)
}
