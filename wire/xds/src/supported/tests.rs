//! Whether the list names what there is, and all that it must.

use super::*;
use crate::Schema;

#[test]
fn the_table_names_only_fields_that_exist() {
    let schema = Schema::new();
    for (message, entries) in all() {
        let descriptor = schema.pool().get_message_by_name(message).expect(message);
        for entry in *entries {
            let name = entry.split(['=', '*']).next().expect("a name");
            assert!(descriptor.get_field_by_name(name).is_some(), "{message}.{name}");
        }
    }
    for (message, field, _) in HINTS {
        assert!(
            schema
                .pool()
                .all_messages()
                .any(|m| m.name() == *message && m.get_field_by_name(field).is_some()),
            "{message}.{field}"
        );
    }
}

#[test]
fn every_message_below_a_supported_field_has_its_own_entry() {
    let schema = Schema::new();
    let check = Check::new();
    for (message, entries) in all() {
        let descriptor = schema.message(message);
        for entry in entries.iter().filter(|e| !e.contains(['=', '*'])) {
            let field = descriptor.get_field_by_name(entry).expect(entry);
            let Kind::Message(inner) = field.kind() else { continue };
            let inner = inner.full_name().to_owned();
            let is_own = !inner.starts_with("google.protobuf.") && !field.is_map();
            assert!(!is_own || check.supported.contains_key(inner.as_str()), "{message}.{entry}: {inner}");
        }
    }
}
