//! Where a client should ask instead: Envoy's `Utility::newUri`.

use http::StatusCode;
use naru_spec::{Invalid, Redirect, RedirectPath, Scheme};

use crate::Subject;
use crate::target::PathEdit;

/// A compiled redirect.
#[derive(Clone, Debug)]
pub struct CompiledRedirect {
    pub status: StatusCode,
    port: Option<u16>,
    scheme: Option<Scheme>,
    /// The query of the request does not go along.
    drops_query: bool,
    host: Option<Box<str>>,
    path: Option<Box<PathEdit>>,
}

impl CompiledRedirect {
    pub(crate) fn compile(spec: &Redirect, is_segmented: bool) -> Result<CompiledRedirect, Invalid> {
        // A path that brings its own query replaces that of the request, whatever `strip_query` says.
        let brings_query = matches!(&spec.path, Some(RedirectPath::Full(path)) if path.contains('?'));
        let path = match &spec.path {
            Some(path) => Some(Box::new(PathEdit::of_redirect(path, is_segmented)?)),
            None => None,
        };
        Ok(CompiledRedirect {
            status: spec.status,
            port: spec.port,
            scheme: spec.scheme,
            drops_query: spec.strip_query || brings_query,
            host: spec.host.as_deref().filter(|host| !host.is_empty()).map(Into::into),
            path,
        })
    }

    /// The value of the Location header. `matched` is the verdict's.
    pub fn location(&self, subject: &Subject<'_>, matched: u32) -> String {
        let scheme = self.scheme.unwrap_or(subject.scheme);
        let mut out = String::with_capacity(64 + subject.path.len());
        push_origin(subject, scheme, self.host.as_deref(), self.port, &mut out);
        match &self.path {
            Some(edit) => edit.write(subject.path, matched, &mut out),
            None => push_path(subject.path, &mut out),
        }
        if !self.drops_query {
            push_query(subject.query, &mut out);
        }
        out
    }
}

/// The same place over TLS: the Location for [`Verdict::RequiresTls`](crate::Verdict), with 301.
pub fn https_location(subject: &Subject<'_>) -> String {
    let mut out = String::with_capacity(64 + subject.path.len());
    push_origin(subject, Scheme::Https, None, None, &mut out);
    push_path(subject.path, &mut out);
    push_query(subject.query, &mut out);
    out
}

/// `scheme://host:port`. The request's own port stays, unless another is asked for or it was the
/// default of a scheme that changes. A port that the scheme implies is not written.
fn push_origin(
    subject: &Subject<'_>,
    scheme: Scheme,
    host: Option<&str>,
    port: Option<u16>,
    out: &mut String,
) {
    out.push_str(scheme.as_str());
    out.push_str("://");
    out.push_str(host.unwrap_or_else(|| {
        let (name, sent_port) = split_port(subject.authority);
        let is_default_of_old = sent_port.is_some_and(|sent| sent == default_port(subject.scheme));
        if port.is_some() || (scheme != subject.scheme && is_default_of_old) {
            name
        } else {
            subject.authority
        }
    }));
    if let Some(port) = port {
        let text = port.to_string();
        if text != default_port(scheme) {
            out.push(':');
            out.push_str(&text);
        }
    }
}

/// The name, and the port if there is one. The colons of an IPv6 address are not a port's.
fn split_port(authority: &str) -> (&str, Option<&str>) {
    let colon = if authority.starts_with('[') {
        authority.rfind("]:").map(|at| at + 1)
    } else {
        authority.rfind(':')
    };
    match colon {
        Some(at) => (&authority[..at], Some(&authority[at + 1..])),
        None => (authority, None),
    }
}

fn default_port(scheme: Scheme) -> &'static str {
    match scheme {
        Scheme::Http => "80",
        Scheme::Https => "443",
    }
}

fn push_path(path: &str, out: &mut String) {
    if !path.starts_with('/') {
        out.push('/');
    }
    out.push_str(path);
}

fn push_query(query: Option<&str>, out: &mut String) {
    if let Some(query) = query {
        out.push('?');
        out.push_str(query);
    }
}
