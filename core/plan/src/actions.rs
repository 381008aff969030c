//! What a route does with a request, but for where it sends it.

use http::StatusCode;
use naru_resource::virtual_service::{DerivePort, HttpDirectResponse, HttpRedirect, HttpRoute, PathChange};
use naru_resource::{Number, Place, Text};
use naru_spec::{DirectResponse, Path, PathRewrite, Pattern, Redirect, RedirectPath, Scheme, code, defaults};

use crate::findings::Findings;
use crate::registry::port_number;
use crate::routes::Context;

/// Exactly one thing is done with a request.
pub(crate) fn check_kind(route: &HttpRoute, path: &Path<'_>, findings: &mut Findings<'_>) {
    let said = [
        (!route.route.is_empty(), "route"),
        (route.redirect.is_some(), "redirect"),
        (route.direct_response.is_some(), "directResponse"),
        (route.delegate.is_some(), "delegate"),
    ];
    let said: Vec<&str> = said.into_iter().filter_map(|(is_said, name)| is_said.then_some(name)).collect();
    match said.as_slice() {
        [_] => {}
        [] => {
            let message = "the route says nothing to do";
            let hint = "one of route, redirect, directResponse, delegate";
            findings.error(code::MISSING_FIELD, route.place, path, message, hint);
        }
        several => {
            let message = format!("only one of {} can be said", several.join(", "));
            findings.error(code::CONFLICTING_FIELDS, route.place, path, message, "");
        }
    }
    if route.beyond.is_none() {
        check_said(route, path, findings);
    }
    if route.redirect.is_some() || route.direct_response.is_some() {
        for (place, field) in [
            (route.rewrite.as_ref().map(|r| r.place), "rewrite"),
            (route.fault.as_ref().map(|f| f.place), "fault"),
        ] {
            if let Some(place) = place {
                let message = format!("'{field}' means nothing where no request is sent on");
                findings.error(code::CONFLICTING_FIELDS, place, &path.field(field), message, "");
            }
        }
        for (place, field) in [
            (route.timeout.map(|said| said.place), "timeout"),
            (route.retries.as_ref().map(|said| said.place), "retries"),
            (route.mirror.as_ref().map(|said| said.place), "mirror"),
            (route.mirrors.first().map(|said| said.place), "mirrors"),
        ] {
            if let Some(place) = place {
                let message = format!("'{field}' means nothing where no request is sent on");
                findings.warning(code::NO_EFFECT, place, &path.field(field), message, "leave it out");
            }
        }
    }
}

/// What says nothing, or what nothing else lets act.
fn check_said(route: &HttpRoute, path: &Path<'_>, findings: &mut Findings<'_>) {
    let is_some = |text: &Option<Text>| text.as_ref().is_some_and(|text| !text.is_empty());
    if let Some(rewrite) = &route.rewrite
        && !is_some(&rewrite.uri)
        && !is_some(&rewrite.authority)
        && rewrite.uri_regex_rewrite.is_none()
    {
        let message = "nothing is rewritten: uri, uriRegexRewrite or authority is needed";
        findings.error(code::MISSING_FIELD, rewrite.place, &path.field("rewrite"), message, "");
    }
    if let Some(redirect) = &route.redirect
        && !is_some(&redirect.uri)
        && !is_some(&redirect.authority)
        && !is_some(&redirect.scheme)
        && redirect.port.is_none()
        && redirect.derive_port.is_none()
    {
        let message = "a client would be sent where it has asked: uri, authority, scheme or port is needed";
        findings.error(code::MISSING_FIELD, redirect.place, &path.field("redirect"), message, "");
    }
    let percentages = [
        (route.mirror_percentage.as_ref().map(|said| said.place), "mirrorPercentage"),
        (route.mirror_percent.as_ref().map(|said| said.place), "mirrorPercent"),
    ];
    for (place, field) in percentages {
        if let Some(place) = place.filter(|_| route.mirror.is_none()) {
            let message = format!("'{field}' is of 'mirror', which is not there");
            let hint = "of 'mirrors' each has its own percentage";
            findings.warning(code::NO_EFFECT, place, &path.field(field), message, hint);
        }
    }
    if let Some(retries) = &route.retries
        && retries.attempts.as_ref().is_some_and(|attempts| attempts.value == 0)
        && (retries.per_try_timeout.is_some()
            || retries.retry_on.is_some()
            || retries.retry_remote_localities.is_some())
    {
        let message = "nothing is retried with 'attempts: 0', and the rest of it has no effect";
        let path = path.field("retries");
        findings.warning(code::NO_EFFECT, retries.place, &path, message, "say attempts: 1, or nothing else");
    }
}

/// The port of a redirect of the Gateway API to the host of the request: that of the scheme where it names one and no
/// port. Behind another host none is written that goes without saying.
pub(crate) fn port_of_api(said: &HttpRedirect) -> Option<u16> {
    if said.authority.is_some() {
        return None;
    }
    let of_scheme = || match said.scheme.as_ref()?.as_str() {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    };
    said.port.as_ref().map_or_else(of_scheme, |port| u16::try_from(port.value).ok())
}

pub(crate) fn redirect_of(
    written: &HttpRedirect,
    context: &Context<'_>,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Option<Redirect> {
    let mut redirect = Redirect::default();
    if let Some(code) = &written.redirect_code {
        match code.value {
            301 | 302 | 303 | 307 | 308 => {
                redirect.status =
                    u16::try_from(code.value).ok().and_then(|code| StatusCode::from_u16(code).ok())?;
            }
            other => {
                let message = format!("{other} is not a status of a redirect");
                let hint = "one of 301, 302, 303, 307, 308";
                let path = path.field("redirectCode");
                findings.error(code::INVALID_VALUE, code.place, &path, message, hint);
            }
        }
    }
    redirect.scheme = match written.scheme.as_ref().map(|scheme| (scheme.as_str(), scheme.place)) {
        None | Some(("", _)) => None,
        Some(("http", _)) => Some(Scheme::Http),
        Some(("https", _)) => Some(Scheme::Https),
        Some((other, place)) => {
            let message = format!("'{other}' is not a scheme");
            findings.error(code::UNKNOWN_VALUE, place, &path.field("scheme"), message, "http or https");
            None
        }
    };
    redirect.host = written.authority.as_ref().map(|host| host.value.clone()).filter(|host| !host.is_empty());
    let uri = written.uri.as_ref().map(|uri| uri.as_str()).filter(|uri| !uri.is_empty());
    redirect.path = uri.map(|uri| match uri.strip_prefix("%PREFIX()%") {
        Some(rest) => RedirectPath::Prefix(rest.to_owned()),
        None => RedirectPath::Full(uri.to_owned()),
    });
    let is_tls = matches!(context, Context::Gateway { is_tls: true, .. });
    let port = match (&written.port, &written.derive_port) {
        (Some(port), _) => port_number(port.value, port.place, &path.field("port"), findings),
        (None, Some(derive)) if derive.value == DerivePort::FromRequestPort => context.port(),
        (None, _) => None,
    };
    let scheme = redirect.scheme.unwrap_or(if is_tls { Scheme::Https } else { Scheme::Http });
    // A default port is not written out.
    redirect.port = port.filter(|port| !matches!((port, scheme), (80, Scheme::Http) | (443, Scheme::Https)));
    Some(redirect)
}

/// What the Gateway API makes of a path. A prefix is one of whole segments, and nothing is left of it but a slash where it
/// is replaced by none.
pub(crate) fn rewrite_of(change: &PathChange) -> Option<PathRewrite> {
    match change {
        PathChange::Full(path) => Some(PathRewrite::Full(path.clone())),
        PathChange::Prefix { matched, by } => match changed(matched, by)? {
            Changed::Prefix(by) => Some(PathRewrite::Prefix(by)),
            Changed::Pattern(pattern) => {
                Some(PathRewrite::Regex { pattern, substitution: SUBSTITUTION.to_owned() })
            }
        },
    }
}

pub(crate) fn redirect_path_of(change: &PathChange) -> Option<RedirectPath> {
    match change {
        PathChange::Full(path) => Some(RedirectPath::Full(path.clone())),
        PathChange::Prefix { matched, by } => match changed(matched, by)? {
            Changed::Prefix(by) => Some(RedirectPath::Prefix(by)),
            Changed::Pattern(pattern) => {
                Some(RedirectPath::Regex { pattern, substitution: SUBSTITUTION.to_owned() })
            }
        },
    }
}

const SUBSTITUTION: &str = "/\\1";

enum Changed {
    Prefix(String),
    Pattern(Pattern),
}

/// Neither ends in a slash.
fn changed(matched: &str, by: &str) -> Option<Changed> {
    match (matched, by) {
        // All paths: the slash is what is matched.
        ("", by) => Some(Changed::Prefix(format!("{by}/"))),
        (matched, "") => {
            let pattern = format!("^{}/*(.*)$", crate::gateway_api::escaped(matched));
            Pattern::new(pattern).ok().map(Changed::Pattern)
        }
        (_, by) => Some(Changed::Prefix(by.to_owned())),
    }
}

pub(crate) fn direct_of(
    written: &HttpDirectResponse,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Option<DirectResponse> {
    let status = status_of(&written.status, &path.field("status"), findings);
    let body = match &written.body {
        None => Vec::new(),
        Some(body) => match (&body.string, &body.bytes) {
            (Some(text), None) => text.value.clone().into_bytes(),
            (None, Some(bytes)) => bytes.value.clone(),
            (None, None) => Vec::new(),
            (Some(_), Some(bytes)) => {
                let message = "only one of string and bytes can be said";
                findings.error(code::CONFLICTING_FIELDS, bytes.place, &path.field("body"), message, "");
                Vec::new()
            }
        },
    };
    let place = written.body.as_ref().map_or(written.place, |body| body.place);
    fits(&body, place, &path.field("body"), findings).then_some(DirectResponse { status: status?, body })
}

/// Of naru's own answer.
pub(crate) fn status_of(said: &Number, path: &Path<'_>, findings: &mut Findings<'_>) -> Option<StatusCode> {
    let status = u16::try_from(said.value).ok().filter(|status| (200..=599).contains(status));
    let status = status.and_then(|status| StatusCode::from_u16(status).ok());
    if status.is_none() {
        let message = format!("{} is not a status that can be answered", said.value);
        findings.error(code::INVALID_VALUE, said.place, path, message, "200 to 599");
    }
    status
}

/// Whether a body is small enough to stand in a configuration.
pub(crate) fn fits(body: &[u8], place: Place, path: &Path<'_>, findings: &mut Findings<'_>) -> bool {
    let fits = body.len() <= defaults::DIRECT_BODY_BYTES_MAX;
    if !fits {
        let message = format!("the body has {} bytes", body.len());
        let hint = format!("at most {} are allowed", defaults::DIRECT_BODY_BYTES_MAX);
        findings.error(code::INVALID_VALUE, place, path, message, hint);
    }
    fits
}
