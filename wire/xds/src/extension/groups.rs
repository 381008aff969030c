//! Groups for reads and writes, which Envoy has no words for. Under `groups` in a route's metadata; the length of time is
//! nanoseconds as text:
//!
//! `{read: CLUSTER, write: CLUSTER, write_methods: [..], write_paths: [TEST, ..], read_paths: [TEST, ..],
//! read_your_writes: {for, cookie: NAME}}`, or `{for, header: NAME, scope}` instead of the cookie. A test is
//! `{exact|prefix|suffix|contains|regex, ignore_case}`.

use std::time::Duration;

use http::{HeaderName, Method};
use naru_spec::{Invalid, ReadWriteGroups, ReadYourWrites, SessionKey, StringMatch};

use super::recovery::{as_nanos, nanos};
use super::{Test, as_list, as_object, as_text, list, object, sorted, test_fields, text};
use crate::proto::Value;

pub(super) fn write(groups: &ReadWriteGroups) -> Value {
    let mut fields = Vec::new();
    fields.extend(groups.read.as_ref().map(|name| ("read", text(name))));
    fields.extend(groups.write.as_ref().map(|name| ("write", text(name))));
    if let Some(methods) = &groups.write_methods {
        let methods = methods.iter().map(|method| text(method.as_str()));
        fields.push(("write_methods", list(methods.collect())));
    }
    for (name, paths) in [("write_paths", &groups.write_paths), ("read_paths", &groups.read_paths)] {
        if !paths.is_empty() {
            fields.push((name, list(paths.iter().map(|test| object(test_fields(test))).collect())));
        }
    }
    fields.extend(
        groups.read_your_writes.as_ref().map(|sessions| ("read_your_writes", write_sessions(sessions))),
    );
    object(fields)
}

fn write_sessions(sessions: &ReadYourWrites) -> Value {
    let mut fields = vec![("for", nanos(sessions.lasts()))];
    match sessions.session() {
        SessionKey::Cookie(cookie) => fields.push(("cookie", text(cookie.name()))),
        SessionKey::Header { name, scope } => {
            fields.extend([("header", text(name.as_str())), ("scope", text(scope))]);
        }
    }
    object(fields)
}

/// `Err` holds what is not understood.
pub(super) fn read(said: &Value) -> Result<ReadWriteGroups, String> {
    let mut groups = ReadWriteGroups::default();
    for (key, value) in sorted(as_object("groups", said)?) {
        match key.as_str() {
            "read" => groups.read = Some(as_text(key, value)?.to_owned()),
            "write" => groups.write = Some(as_text(key, value)?.to_owned()),
            "write_methods" => {
                let method = |value| {
                    let text = as_text(key, value)?;
                    Method::from_bytes(text.as_bytes()).map_err(|_| format!("'{text}' is not a method"))
                };
                groups.write_methods =
                    Some(as_list(key, value)?.iter().map(method).collect::<Result<_, _>>()?);
            }
            "write_paths" => groups.write_paths = read_paths(key, value)?,
            "read_paths" => groups.read_paths = read_paths(key, value)?,
            "read_your_writes" => groups.read_your_writes = Some(read_sessions(key, value)?),
            other => return Err(format!("groups.{other} is not known")),
        }
    }
    Ok(groups)
}

fn read_paths(name: &str, value: &Value) -> Result<Vec<StringMatch>, String> {
    let one = |value| {
        let mut test = Test::default();
        for (key, value) in sorted(as_object(name, value)?) {
            if !test.take(key, value)? {
                return Err(format!("groups.{name}.{key} is not known"));
            }
        }
        test.finish().ok_or_else(|| format!("groups.{name} has tests of paths"))
    };
    as_list(name, value)?.iter().map(one).collect()
}

fn read_sessions(name: &str, value: &Value) -> Result<ReadYourWrites, String> {
    let (mut lasts, mut cookie, mut header, mut scope) = (Duration::ZERO, None, None, String::new());
    for (key, value) in sorted(as_object(name, value)?) {
        match key.as_str() {
            "for" => lasts = as_nanos(key, value)?,
            "cookie" => cookie = Some(as_text(key, value)?),
            "header" => header = Some(as_text(key, value)?),
            "scope" => as_text(key, value)?.clone_into(&mut scope),
            other => return Err(format!("groups.read_your_writes.{other} is not known")),
        }
    }
    let of = |made: Result<ReadYourWrites, Invalid>| made.map_err(|invalid| invalid.message);
    match (cookie, header) {
        (Some(cookie), None) => of(ReadYourWrites::by_cookie(lasts, cookie)),
        (None, Some(header)) => match HeaderName::from_bytes(header.as_bytes()) {
            Ok(name) => of(ReadYourWrites::by_header(lasts, name, scope)),
            Err(_) => Err(format!("'{header}' is not the name of a header")),
        },
        _ => Err("groups.read_your_writes has either a cookie or a header".to_owned()),
    }
}
