//! What were the last requests, and what became of them?
//!
//! `naru up` keeps lines of JSON in memory: what rules look at, and what was decided. They are read again where somebody
//! asks about one of them, or what a save changes.

use naru_proxy::Proxy;
use naru_spec::{AccessLog, Config, Format, JsonField, LogFormat, LogSink};
use serde_json::Value;

use crate::diff_command::logged::{Logged, Reader};
use crate::diff_command::replayed::headers_asked;

/// The fields of a line, and what they say.
const FIELDS: [(&str, &str); 19] = [
    ("authority", "%REQ(:AUTHORITY)%"),
    ("downstream_local_address", "%DOWNSTREAM_LOCAL_ADDRESS%"),
    ("downstream_remote_address", "%DOWNSTREAM_REMOTE_ADDRESS%"),
    ("downstream_tls_version", "%DOWNSTREAM_TLS_VERSION%"),
    ("duration_ms", "%DURATION%"),
    ("method", "%REQ(:METHOD)%"),
    ("path", "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"),
    ("protocol", "%PROTOCOL%"),
    ("reason", "%REASON%"),
    ("request_id", "%REQ(X-REQUEST-ID)%"),
    ("response_code", "%RESPONSE_CODE%"),
    ("response_flags", "%RESPONSE_FLAGS%"),
    ("route_name", "%ROUTE_NAME%"),
    ("route_origin", "%ROUTE_ORIGIN%"),
    ("start_time", "%START_TIME%"),
    ("upstream_attempts", "%UPSTREAM_REQUEST_ATTEMPT_COUNT%"),
    ("upstream_cluster", "%UPSTREAM_CLUSTER%"),
    ("upstream_failure", "%UPSTREAM_TRANSPORT_FAILURE_REASON%"),
    ("upstream_host", "%UPSTREAM_HOST%"),
];
/// What proves who somebody is stays where it is.
const NEVER: [&str; 2] = ["authorization", "proxy-authorization"];

/// Has the last requests of every listener kept.
pub fn record(config: &mut Config) {
    let value = |text: &str| Format::parse(text).ok().map(JsonField::Value);
    let asked = headers_asked(config);
    let headers = asked.iter().filter(|name| !NEVER.contains(&name.as_str()));
    let headers = headers.filter_map(|name| Some((name.clone(), value(&format!("%REQ({name})%"))?)));
    let mut fields: Vec<(String, JsonField)> = FIELDS
        .iter()
        .filter_map(|(name, text)| Some(((*name).to_owned(), value(text)?)))
        .chain([("headers".to_owned(), JsonField::Object(headers.collect()))])
        .collect();
    fields.sort_by(|(a, _), (b, _)| a.cmp(b));
    let log = AccessLog { sink: LogSink::Recent, format: LogFormat::Json(fields) };
    for chain in config.listeners.iter_mut().flat_map(|listener| &mut listener.chains) {
        if chain.tcp.is_none() {
            chain.http.access_log.push(log.clone());
        }
    }
}

/// Every request that is kept, the oldest first.
pub fn requests(lines: &[u8]) -> Vec<Option<Logged>> {
    let reader = Reader::new(None);
    String::from_utf8_lossy(lines).lines().map(|line| reader.read(line)).collect()
}

/// The last request with this id: what it was, and what became of it.
pub fn find(proxy: &Proxy, id: &str) -> Option<(Logged, Value)> {
    let lines = proxy.recent_lines();
    let text = String::from_utf8_lossy(&lines);
    text.lines().rev().filter(|line| line.contains(id)).find_map(|line| {
        let value: Value = serde_json::from_str(line).ok()?;
        let is_it = value.get("request_id").and_then(Value::as_str) == Some(id);
        Some((Reader::new(None).read(line)?, value)).filter(|_| is_it)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_of_a_line_can_be_written() {
        for (name, text) in FIELDS {
            assert!(Format::parse(text).is_ok(), "{name}");
        }
        assert!(FIELDS.is_sorted());
    }
}
