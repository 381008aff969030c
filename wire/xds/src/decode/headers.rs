//! Operations on headers.

use http::HeaderName;
use naru_spec::{Format, HeaderAction, HeaderOp, HeaderOps, Invalid};

use crate::findings::{Findings, code};
use crate::proto::core;
use naru_spec::Path;

/// Of a request or a response, as four messages of the API say them.
pub(super) fn ops(
    add: &[core::HeaderValueOption],
    remove: &[String],
    fields: (&str, &str),
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> HeaderOps {
    let mut ops = HeaderOps::default();
    let removed = path.field(fields.1);
    for (at, text) in remove.iter().enumerate() {
        let path = removed.at(at);
        if let Some(name) = name(text, &path, findings) {
            match HeaderOps::check_removable(&name) {
                Ok(()) => ops.remove.push(name),
                Err(invalid) => findings.invalid(&path, invalid),
            }
        }
    }
    let added = path.field(fields.0);
    for (at, said) in add.iter().enumerate() {
        ops.add.extend(op(said, &added.at(at), findings));
    }
    ops
}

pub(super) const REQUEST: (&str, &str) = ("request_headers_to_add", "request_headers_to_remove");
pub(super) const RESPONSE: (&str, &str) = ("response_headers_to_add", "response_headers_to_remove");

fn op(said: &core::HeaderValueOption, path: &Path<'_>, findings: &mut Findings<'_>) -> Option<HeaderOp> {
    let header = said.header.as_ref()?;
    let header_path = path.field("header");
    let name = name(&header.key, &header_path.field("key"), findings);
    if name.as_ref() == Some(&http::header::HOST) {
        let invalid = Invalid::new("the Host header cannot be set").hint("use host_rewrite_literal");
        findings.invalid(&header_path.field("key"), invalid);
    }
    let value = Format::parse(&header.value).unwrap_or_else(|invalid| {
        findings.invalid(&header_path.field("value"), invalid);
        Format::default()
    });
    Some(HeaderOp {
        name: name?,
        value,
        action: action(said, path, findings),
        keep_empty: said.keep_empty_value,
    })
}

#[expect(deprecated, reason = "the older spelling is still read")]
fn action(said: &core::HeaderValueOption, path: &Path<'_>, findings: &mut Findings<'_>) -> HeaderAction {
    use core::header_value_option::HeaderAppendAction as Said;
    let action = match said.append_action() {
        Said::AppendIfExistsOrAdd => HeaderAction::Append,
        Said::AddIfAbsent => HeaderAction::AddIfAbsent,
        Said::OverwriteIfExistsOrAdd => HeaderAction::Overwrite,
        Said::OverwriteIfExists => HeaderAction::OverwriteIfPresent,
    };
    match said.append {
        None => action,
        Some(append) => {
            if action != HeaderAction::Append {
                let text = "only one of append and append_action can be said";
                findings.error(&path.field("append"), code::CONFLICTING_FIELDS, text, "remove append");
            }
            if append.value { HeaderAction::Append } else { HeaderAction::Overwrite }
        }
    }
}

/// An empty one is told by the API's own rules.
pub(super) fn name(text: &str, path: &Path<'_>, findings: &mut Findings<'_>) -> Option<HeaderName> {
    let name = HeaderName::from_bytes(text.as_bytes());
    if name.is_err() && !text.is_empty() {
        let invalid = match text.starts_with(':') {
            true => Invalid::new(format!("the pseudo header '{text}' cannot be used here")),
            false => Invalid::new(format!("'{text}' is not the name of a header")),
        };
        findings.invalid(path, invalid);
    }
    name.ok()
}
