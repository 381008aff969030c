//! Values that many messages hold.

use std::net::SocketAddr;
use std::time::Duration;

use naru_spec::{Address, DataSource, HeaderAction, HeaderOps, Pattern, Pipe};

use crate::proto::{self, core, matcher};

pub(super) fn duration(duration: Duration) -> proto::Duration {
    proto::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or_default(),
    }
}

/// Without limit is zero.
pub(super) fn limit(limit: Option<Duration>) -> proto::Duration {
    duration(limit.unwrap_or_default())
}

pub(super) fn number(value: u32) -> proto::UInt32Value {
    proto::UInt32Value { value }
}

pub(super) fn flag(value: bool) -> proto::BoolValue {
    proto::BoolValue { value }
}

pub(super) fn socket_address(address: &SocketAddr) -> core::Address {
    named_address(address.ip().to_string(), address.port())
}

pub(super) fn address(address: &Address) -> core::Address {
    match address {
        Address::Socket(address) => socket_address(address),
        Address::Name { host, port } => named_address(host.clone(), *port),
        Address::Pipe(path) => pipe(&Pipe { path: path.clone(), mode: 0 }),
    }
}

pub(super) fn pipe(pipe: &Pipe) -> core::Address {
    let said = core::Pipe { path: pipe.path.clone(), mode: pipe.mode };
    core::Address { address: Some(core::address::Address::Pipe(said)) }
}

fn named_address(address: String, port: u16) -> core::Address {
    let port = core::socket_address::PortSpecifier::PortValue(port.into());
    let address = core::SocketAddress { address, port_specifier: Some(port), ..Default::default() };
    core::Address { address: Some(core::address::Address::SocketAddress(address)) }
}

pub(super) fn data_source(source: &DataSource) -> core::DataSource {
    use core::data_source::Specifier;
    let specifier = match source {
        DataSource::File(name) => Specifier::Filename(name.clone()),
        DataSource::Inline(bytes) => inline(bytes),
        DataSource::Environment(name) => Specifier::EnvironmentVariable(name.clone()),
    };
    core::DataSource { specifier: Some(specifier), watched_directory: None }
}

/// As text where it is text.
pub(super) fn inline(bytes: &[u8]) -> core::data_source::Specifier {
    match std::str::from_utf8(bytes) {
        Ok(text) => core::data_source::Specifier::InlineString(text.to_owned()),
        Err(_) => core::data_source::Specifier::InlineBytes(bytes.to_vec()),
    }
}

pub(super) fn pattern(pattern: &Pattern) -> matcher::RegexMatcher {
    matcher::RegexMatcher { regex: pattern.as_str().to_owned(), ..Default::default() }
}

pub(super) fn additions(ops: &HeaderOps) -> Vec<core::HeaderValueOption> {
    use core::header_value_option::HeaderAppendAction;
    let options = ops.add.iter().map(|op| core::HeaderValueOption {
        header: Some(core::HeaderValue {
            key: op.name.as_str().to_owned(),
            value: op.value.to_string(),
            ..Default::default()
        }),
        append_action: match op.action {
            HeaderAction::Append => HeaderAppendAction::AppendIfExistsOrAdd,
            HeaderAction::AddIfAbsent => HeaderAppendAction::AddIfAbsent,
            HeaderAction::Overwrite => HeaderAppendAction::OverwriteIfExistsOrAdd,
            HeaderAction::OverwriteIfPresent => HeaderAppendAction::OverwriteIfExists,
        }
        .into(),
        keep_empty_value: op.keep_empty,
        ..Default::default()
    });
    options.collect()
}

pub(super) fn removals(ops: &HeaderOps) -> Vec<String> {
    ops.remove.iter().map(|name| name.as_str().to_owned()).collect()
}
