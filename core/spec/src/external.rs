//! Somebody else is asked whether a request may pass: Envoy's `ext_authz`, Istio's `action: CUSTOM`.

use std::time::Duration;

use http::HeaderName;
use naru_base::Fraction;

use crate::{Invalid, RbacRules, StringMatch, defaults};

/// Who is asked, what they are told, and what is done with what they say.
#[derive(Clone, Debug, PartialEq)]
pub struct External {
    pub service: ExternalService,
    /// For an answer, from when it is asked.
    pub timeout: Duration,
    /// Without an answer a request passes.
    pub failure_allows: bool,
    /// The upstream is told that there was none.
    pub tells_failure: bool,
    /// What a client is answered where nobody says anything.
    pub status_on_error: u16,
    /// What they change of a request may change which rule takes it.
    pub reroutes: bool,
    /// The body of the request is told, too.
    pub body: Option<ExternalBody>,
    /// By name. `None` is all of them to gRPC, and none but those that are always told to HTTP.
    pub allowed_headers: Option<Vec<StringMatch>>,
    /// Not told, whatever is allowed.
    pub disallowed_headers: Vec<StringMatch>,
    /// Each value of a header by itself, and as it came.
    pub raw_headers: bool,
    pub tells_certificate: bool,
    pub tells_server_name: bool,
    /// What tokens claim; by gRPC only.
    pub tells_claims: bool,
    /// Of a refusal, what is beyond is cut off.
    pub denied_body_bytes_max: Option<u32>,
    /// What only they are told; by gRPC only.
    pub context: Vec<(String, String)>,
    /// This part of the requests is asked about.
    pub enabled: Fraction,
    /// The others are refused.
    pub denies_others: bool,
    /// Only requests for which one of these holds are asked about. `None`: all.
    pub only_for: Option<RbacRules>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum ExternalService {
    Http(ExternalHttp),
    Grpc(ExternalGrpc),
}

/// A request of HTTP with the method and the path of the one that it is about.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct ExternalHttp {
    pub cluster: String,
    pub path_prefix: String,
    /// Instead of the request's own, where it is not empty.
    pub path: String,
    /// In the place of what a client says under these names.
    pub headers_to_add: Vec<(HeaderName, String)>,
    /// Of its answers: in the place of what the request has.
    pub upstream_headers: Vec<StringMatch>,
    /// Beside what the request has.
    pub upstream_headers_to_append: Vec<StringMatch>,
    /// Of refusals; empty is all.
    pub client_headers: Vec<StringMatch>,
    pub client_headers_on_success: Vec<StringMatch>,
}

/// `envoy.service.auth.v3.Authorization/Check`.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct ExternalGrpc {
    pub cluster: String,
    /// Empty is the name of the cluster.
    pub authority: String,
    pub metadata: Vec<(HeaderName, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExternalBody {
    pub bytes_max: u32,
    /// Of a longer body its beginning is told; else such a request is refused.
    pub allows_partial: bool,
    /// As bytes, not as text; by gRPC only.
    pub is_raw: bool,
}

/// What a rule says otherwise than its listener.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct ExternalChange {
    pub context: Vec<(String, String)>,
    pub body: BodyChange,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum BodyChange {
    #[default]
    AsBefore,
    Without,
    Instead(ExternalBody),
}

impl External {
    pub fn new(service: ExternalService) -> External {
        External {
            service,
            timeout: defaults::EXTERNAL_TIMEOUT,
            failure_allows: false,
            tells_failure: false,
            status_on_error: 403,
            reroutes: false,
            body: None,
            allowed_headers: None,
            disallowed_headers: Vec::new(),
            raw_headers: false,
            tells_certificate: false,
            tells_server_name: false,
            tells_claims: false,
            denied_body_bytes_max: None,
            context: Vec::new(),
            enabled: Fraction::ALL,
            denies_others: false,
            only_for: None,
        }
    }

    pub fn cluster(&self) -> &str {
        match &self.service {
            ExternalService::Http(http) => &http.cluster,
            ExternalService::Grpc(grpc) => &grpc.cluster,
        }
    }

    /// With what a rule says. Of what both say under one name, the rule's holds.
    pub fn changed(&self, change: &ExternalChange) -> External {
        let mut changed = self.clone();
        changed.context.retain(|(name, _)| change.context.iter().all(|(own, _)| own != name));
        changed.context.extend(change.context.iter().cloned());
        match change.body {
            BodyChange::AsBefore => {}
            BodyChange::Without => changed.body = None,
            // How it is told is the listener's to say, as in Envoy.
            BodyChange::Instead(body) => {
                let is_raw = self.body.is_some_and(|own| own.is_raw);
                changed.body = Some(ExternalBody { is_raw, ..body });
            }
        }
        changed
    }

    pub fn problems(&self) -> Vec<Invalid> {
        let mut found = Vec::new();
        if self.timeout.is_zero() {
            found.push(Invalid::new("a timeout of 0 leaves no time to ask"));
        }
        if self.cluster().is_empty() {
            found.push(Invalid::new("without a cluster nobody can be asked"));
        }
        if !(200..=599).contains(&self.status_on_error) {
            found.push(Invalid::new(format!("{} is no status of an answer", self.status_on_error)));
        }
        if self.body.is_some_and(|body| body.bytes_max == 0) {
            found.push(Invalid::new("a body of no bytes says nothing").hint("1 or more, or no body at all"));
        }
        if let ExternalService::Http(http) = &self.service {
            let paths = [&http.path_prefix, &http.path];
            if let Some(path) = paths.iter().find(|path| !path.is_empty() && !path.starts_with('/')) {
                found.push(Invalid::new(format!("'{path}' is no path")).hint("it begins with /"));
            }
            if !http.path_prefix.is_empty() && !http.path.is_empty() {
                found.push(Invalid::new("only one of a prefix of the path and another path can be said"));
            }
        }
        found
    }
}
