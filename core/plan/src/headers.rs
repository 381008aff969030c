//! Istio's header operations in the words of rules.

use http::HeaderName;
use naru_resource::Text;
use naru_resource::virtual_service::HeaderOperations;
use naru_spec::{ClusterChoice, Format, HeaderAction, HeaderOp, HeaderOps, Path, code};

use crate::findings::Findings;

/// Operations on the headers of one message. A new host among them is a rewrite, and returned apart.
pub(crate) fn operations(
    written: Option<&HeaderOperations>,
    is_request: bool,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> (HeaderOps, Option<Text>) {
    let mut ops = HeaderOps::default();
    let mut host = None;
    let Some(written) = written else { return (ops, host) };
    let remove = path.field("remove");
    for (at, name) in written.remove.iter().enumerate() {
        let path = remove.at(at);
        let Some(parsed) = parse(name, &path, findings) else { continue };
        match HeaderOps::check_removable(&parsed) {
            Ok(()) => ops.remove.push(parsed),
            Err(invalid) => {
                let hint = "rewrite it instead: rewrite.authority";
                findings.error(code::INVALID_VALUE, name.place, &path, invalid.message, hint);
            }
        }
    }
    for (list, action, field) in
        [(&written.set, HeaderAction::Overwrite, "set"), (&written.add, HeaderAction::Append, "add")]
    {
        let of_field = path.field(field);
        for (name, value) in list {
            let path = of_field.key(name);
            if is_request && matches!(name.to_ascii_lowercase().as_str(), "host" | ":authority") {
                if host.is_some() {
                    let message = "a request has one host, and it is said twice";
                    findings.error(code::CONFLICTING_FIELDS, name.place, &path, message, "set it once");
                }
                host = Some(value.clone());
                continue;
            }
            let Some(parsed) = parse(name, &path, findings) else { continue };
            if parsed == http::header::HOST {
                let message = "an answer has no host";
                findings.error(code::INVALID_VALUE, name.place, &path, message, "headers.request sets it");
                continue;
            }
            let name = parsed;
            match Format::parse(value) {
                Ok(value) => ops.add.push(HeaderOp { name, value, action, keep_empty: false }),
                Err(invalid) => {
                    findings.error(code::INVALID_VALUE, value.place, &path, invalid.message, invalid.hint);
                }
            }
        }
    }
    (ops, host)
}

/// As in Istio what is said of headers for a destination that is alone is the rule's, behind what the rule says itself; of
/// several each has its own, before that of the rule. The host of the only one is returned.
pub(crate) fn of_only(
    choice: &mut ClusterChoice,
    (requests, answers): &mut (HeaderOps, HeaderOps),
) -> Option<String> {
    let ClusterChoice::Weighted(clusters) = choice else { return None };
    let [only] = clusters.as_mut_slice() else { return None };
    let (own_requests, own_answers) = (&mut only.request_headers, &mut only.response_headers);
    for (of_rule, own) in [(requests, own_requests), (answers, own_answers)] {
        of_rule.remove.append(&mut own.remove);
        of_rule.add.append(&mut own.add);
    }
    let (name, host) = (std::mem::take(&mut only.name), only.host.take());
    *choice = ClusterChoice::One(name);
    host
}

fn parse(name: &Text, path: &Path<'_>, findings: &mut Findings<'_>) -> Option<HeaderName> {
    let parsed = HeaderName::from_bytes(name.to_ascii_lowercase().as_bytes()).ok();
    if parsed.is_none() {
        let message = format!("'{}' cannot be a header", name.value);
        findings.error(code::INVALID_VALUE, name.place, path, message, "");
    }
    parsed
}
