//! What a route does with a request, but for where it sends it.

use http::StatusCode;
use naru_resource::virtual_service::{DerivePort, HttpDirectResponse, HttpRedirect, HttpRetry, HttpRoute};
use naru_spec::{DirectResponse, Path, Redirect, RedirectPath, Scheme, code, defaults};

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
    }
}

/// Of Istio's retries, what can act: other endpoints where no connection can be made.
pub(crate) fn connect_retries(
    retries: Option<&HttpRetry>,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> u32 {
    const CONDITIONS: &[&str] = &[
        "5xx",
        "gateway-error",
        "reset",
        "reset-before-request",
        "connect-failure",
        "retriable-4xx",
        "refused-stream",
        "retriable-status-codes",
        "retriable-headers",
        "envoy-ratelimited",
        "http3-post-connect-failure",
        "cancelled",
        "deadline-exceeded",
        "internal",
        "resource-exhausted",
        "unavailable",
    ];
    let Some(retries) = retries else { return defaults::MESH_CONNECT_RETRIES };
    let path = path.field("retries");
    let mut attempts = defaults::MESH_CONNECT_RETRIES;
    if let Some(said) = &retries.attempts {
        match u32::try_from(said.value) {
            Ok(said) => attempts = said,
            Err(_) => {
                let message = format!("{} cannot be a number of retries", said.value);
                findings.error(code::INVALID_VALUE, said.place, &path.field("attempts"), message, "");
            }
        }
    }
    let mut is_on_connect = true;
    if let Some(said) = &retries.retry_on {
        let words: Vec<&str> = said.split(',').map(str::trim).filter(|word| !word.is_empty()).collect();
        for word in &words {
            if !CONDITIONS.contains(word) && word.parse::<u16>().is_err() {
                let message = format!("'{word}' is no condition to retry on");
                let hint = format!("one of {}, or a status", CONDITIONS.join(", "));
                findings.error(code::UNKNOWN_VALUE, said.place, &path.field("retryOn"), message, hint);
            }
        }
        let on_connect = ["connect-failure", "5xx", "gateway-error"];
        is_on_connect = words.iter().any(|word| on_connect.contains(word));
    }
    if attempts > 0 {
        let message = "naru retries only where no connection can be made; other conditions do not act yet";
        findings.warning(code::NOT_YET, retries.place, &path, message, "");
    }
    if is_on_connect { attempts } else { 0 }
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

pub(crate) fn direct_of(
    written: &HttpDirectResponse,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Option<DirectResponse> {
    let status = u16::try_from(written.status.value).ok().filter(|status| (200..=599).contains(status));
    let status = status.and_then(|status| StatusCode::from_u16(status).ok());
    if status.is_none() {
        let message = format!("{} is not a status that can be answered", written.status.value);
        findings.error(
            code::INVALID_VALUE,
            written.status.place,
            &path.field("status"),
            message,
            "200 to 599",
        );
    }
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
    if body.len() > defaults::DIRECT_BODY_BYTES_MAX {
        let place = written.body.as_ref().map_or(written.place, |body| body.place);
        let message = format!("the body has {} bytes", body.len());
        let hint = format!("at most {} are allowed", defaults::DIRECT_BODY_BYTES_MAX);
        findings.error(code::INVALID_VALUE, place, &path.field("body"), message, hint);
        return None;
    }
    Some(DirectResponse { status: status?, body })
}

pub(crate) fn check_fault(route: &HttpRoute, path: &Path<'_>, findings: &mut Findings<'_>) {
    let Some(fault) = &route.fault else { return };
    let path = path.field("fault");
    let percentages = [
        fault.delay.as_ref().and_then(|delay| delay.percentage.as_ref()),
        fault.abort.as_ref().and_then(|abort| abort.percentage.as_ref()),
    ];
    for value in percentages.into_iter().flatten().filter_map(|percent| percent.value.as_ref()) {
        if !(0.0..=100.0).contains(&value.value) {
            let message = format!("{} is not a percentage", value.value);
            findings.error(code::INVALID_VALUE, value.place, &path, message, "0 to 100");
        }
    }
    if let Some(delay) = &fault.delay
        && delay.fixed_delay.is_none()
    {
        let message = "a delay needs 'fixedDelay'";
        findings.error(code::MISSING_FIELD, delay.place, &path.field("delay"), message, "");
    }
    if let Some(abort) = &fault.abort {
        let path = path.field("abort");
        let said = [abort.http_status.is_some(), abort.grpc_status.is_some(), abort.http2_error.is_some()];
        if said.iter().filter(|is_said| **is_said).count() != 1 {
            let message = "exactly one of httpStatus, grpcStatus and http2Error is needed";
            findings.error(code::CONFLICTING_FIELDS, abort.place, &path, message, "");
        }
        if let Some(status) = &abort.http_status
            && !(200..=599).contains(&status.value)
        {
            let message = format!("{} is not a status that can be answered", status.value);
            findings.error(code::INVALID_VALUE, status.place, &path, message, "200 to 599");
        }
    }
}
