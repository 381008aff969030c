//! What requests are called for those who count them, and the filter that has a rate limit service count.

use naru_base::Fraction;
use naru_spec::descriptor::is_known_at_gate;
use naru_spec::{
    CheckKind, Config, DescribedHeader, Descriptor, DescriptorPart, ExternalGrpc, Format, GateChange,
    HeaderOps, HeaderTest, HitCount, Hits, HostRates, Invalid, Path, PseudoHeader, RateOverride,
    RateRequests, RateService, RateServiceChange, defaults,
};

use super::external::JWT_FILTER;
use super::{external, headers, matching, value};
use crate::findings::Findings;
use crate::proto::{core, kinds, rate_service, ratelimit, route};

/// Where descriptors are said, which decides what can be said of them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    AtRoutes,
    /// By a filter that has buckets of its own.
    ByLocal,
    ByService,
}

pub(super) fn descriptors(
    said: &[route::RateLimit],
    at: Said,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Vec<Descriptor> {
    let all = said.iter().enumerate();
    all.map(|(nth, said)| descriptor(said, at, &path.at(nth), findings)).collect()
}

fn descriptor(said: &route::RateLimit, at: Said, path: &Path<'_>, findings: &mut Findings<'_>) -> Descriptor {
    use route::rate_limit::r#override::OverrideSpecifier;
    if said.stage.is_some() && at != Said::AtRoutes {
        let text = "what a filter says itself has no stage";
        findings.unsupported(&path.field("stage"), text, "remove it, as Envoy asks for it too");
    }
    if said.limit.is_some() && at == Said::ByLocal {
        let text = "buckets of this process have limits of their own";
        findings.unsupported(&path.field("limit"), text, "say it in descriptors.token_bucket");
    }
    if said.hits_addend.is_some() && at == Said::AtRoutes {
        let text = "hits are counted where a filter says itself what requests are called";
        let hint =
            "Envoy ignores it here: say it in rate_limits of the filter, or of typed_per_filter_config";
        findings.unsupported(&path.field("hits_addend"), text, hint);
    }
    let listed = path.field("actions");
    let actions = said.actions.iter().enumerate();
    let parts = actions.filter_map(|(nth, action)| part(action, &listed.at(nth), findings)).collect();
    let limit = match said.limit.as_ref().and_then(|limit| limit.override_specifier.as_ref()) {
        Some(OverrideSpecifier::RateLimit(limit)) => Some(RateOverride {
            requests: limit.requests_per_unit,
            unit: u32::try_from(limit.unit).unwrap_or(0),
        }),
        // Told as a field that is not supported.
        Some(OverrideSpecifier::DynamicMetadata(_)) | None => None,
    };
    Descriptor {
        stage: said.stage.map_or(0, |stage| stage.value),
        parts,
        hits: said.hits_addend.as_ref().and_then(|said| hits(said, &path.field("hits_addend"), findings)),
        limit,
        tells: match said.x_ratelimit_option {
            1 => Some(false),
            2 => Some(true),
            _ => None,
        },
    }
}

fn hits(said: &route::rate_limit::HitsAddend, path: &Path<'_>, findings: &mut Findings<'_>) -> Option<Hits> {
    let count = match (said.number, said.format.as_str()) {
        (Some(number), "") => HitCount::Number(number.value),
        (None, text) if !text.is_empty() => {
            let path = path.field("format");
            let format = Format::parse(text).map_err(|invalid| findings.invalid(&path, invalid)).ok()?;
            if format.as_literal().is_some() || format.pieces().len() != 1 {
                findings.invalid(&path, Invalid::new("it is one operator, as %REQ(x-cost)%"));
            } else if !is_known_at_gate(&format) {
                findings.unsupported_value(&path, LATE, LATE_HINT);
            }
            HitCount::Format(format)
        }
        _ => {
            findings.invalid(path, Invalid::new("it is either a number or a format"));
            return None;
        }
    };
    Some(Hits { count, gives_back: said.is_negative_hits })
}

const LATE: &str = "this is not known yet when a request is counted";
const LATE_HINT: &str = "%REQ()%, %PROTOCOL%, addresses of clients and %REQUESTED_SERVER_NAME% are";

#[expect(deprecated, reason = "the older spelling of metadata is told as a field that is not supported")]
fn part(
    said: &route::rate_limit::Action,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Option<DescriptorPart> {
    use route::rate_limit::action::ActionSpecifier as Action;
    let key = |said: &str, default: &str| if said.is_empty() { default.to_owned() } else { said.to_owned() };
    // What is not supported is told as a field.
    Some(match said.action_specifier.as_ref()? {
        Action::SourceCluster(_) => DescriptorPart::SourceCluster(String::new()),
        Action::DestinationCluster(_) => DescriptorPart::DestinationCluster,
        Action::RequestHeaders(said) => {
            if PseudoHeader::of(&said.header_name).is_none() {
                headers::name(&said.header_name, &path.field("request_headers.header_name"), findings);
            }
            DescriptorPart::Header {
                name: said.header_name.clone(),
                key: said.descriptor_key.clone(),
                skips: said.skip_if_absent,
            }
        }
        Action::QueryParameters(said) => DescriptorPart::QueryParameter {
            name: said.query_parameter_name.clone(),
            key: said.descriptor_key.clone(),
            skips: said.skip_if_absent,
        },
        Action::RemoteAddress(_) => DescriptorPart::RemoteAddress,
        Action::MaskedRemoteAddress(said) => {
            // Longer ones are told by the API's own rules.
            let bits = |said: &Option<crate::proto::UInt32Value>, default| {
                said.as_ref().map_or(default, |said| u8::try_from(said.value).unwrap_or(default))
            };
            DescriptorPart::MaskedRemoteAddress {
                v4_bits: bits(&said.v4_prefix_mask_len, 32),
                v6_bits: bits(&said.v6_prefix_mask_len, 128),
            }
        }
        Action::GenericKey(said) => DescriptorPart::Literal {
            key: key(&said.descriptor_key, "generic_key"),
            value: said.descriptor_value.clone(),
        },
        Action::HeaderValueMatch(said) => {
            let listed = path.field("header_value_match.headers");
            let tests = said.headers.iter().enumerate();
            DescriptorPart::Headers {
                key: key(&said.descriptor_key, "header_match"),
                value: said.descriptor_value.clone(),
                expects: said.expect_match.is_none_or(|expects| expects.value),
                tests: tests.filter_map(|(nth, said)| header(said, &listed.at(nth), findings)).collect(),
            }
        }
        Action::QueryParameterValueMatch(said) => {
            let listed = path.field("query_parameter_value_match.query_parameters");
            let tests = said.query_parameters.iter().enumerate();
            DescriptorPart::Query {
                key: key(&said.descriptor_key, "query_match"),
                value: said.descriptor_value.clone(),
                expects: said.expect_match.is_none_or(|expects| expects.value),
                tests: tests.map(|(nth, said)| matching::query(said, &listed.at(nth), findings)).collect(),
            }
        }
        Action::RemoteAddressMatch(said) => {
            let path = path.field("remote_address_match");
            address(said, key(&said.descriptor_key, "remote_address_match"), &path, findings)
        }
        Action::Metadata(said) => claim(said, &path.field("metadata"), findings)?,
        Action::DynamicMetadata(_) | Action::Extension(_) => return None,
    })
}

fn header(
    said: &route::HeaderMatcher,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Option<DescribedHeader> {
    let Some(which) = PseudoHeader::of(&said.name) else {
        return matching::header(said, path, findings).map(DescribedHeader::Own);
    };
    let (test, inverts) = match matching::header_test(said, path, findings) {
        HeaderTest::Value(test) => (Some(test), said.invert_match),
        HeaderTest::Present(present) => (None, said.invert_match == present),
        HeaderTest::Range { .. } => {
            findings.unsupported_value(path, format!("'{}' is no number", said.name), "use string_match");
            return None;
        }
    };
    Some(DescribedHeader::Pseudo { which, test, inverts })
}

fn address(
    said: &route::rate_limit::action::RemoteAddressMatch,
    key: String,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> DescriptorPart {
    let of_value = path.field("descriptor_value");
    let value = Format::parse(&said.descriptor_value).unwrap_or_else(|invalid| {
        findings.invalid(&of_value, invalid);
        Format::default()
    });
    if !is_known_at_gate(&value) {
        findings.unsupported_value(&of_value, LATE, LATE_HINT);
    }
    let matcher = said.address_matcher.clone().unwrap_or_default();
    let listed = path.field("address_matcher.ranges");
    let ranges = matcher.ranges.iter().enumerate();
    let networks = ranges.filter_map(|(nth, range)| {
        let length = range.prefix_len.map_or(0, |length| length.value);
        value::network(&range.address_prefix, length, &listed.at(nth), findings)
    });
    DescriptorPart::AddressMatch {
        key,
        value,
        default: said.default_value.clone(),
        networks: networks.collect(),
        inverts: matcher.invert_match,
    }
}

/// The only metadata that is known: what tokens claim.
fn claim(
    said: &route::rate_limit::action::MetaData,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Option<DescriptorPart> {
    use envoy_types::pb::envoy::r#type::metadata::v3::metadata_key::path_segment::Segment;
    let of_key = path.field("metadata_key");
    let metadata = said.metadata_key.clone().unwrap_or_default();
    if metadata.key != JWT_FILTER {
        let text = format!("metadata of the filter '{}' is not known", metadata.key);
        findings.unsupported_value(&of_key.field("key"), text, format!("only that of {JWT_FILTER} is"));
        return None;
    }
    // Told as a field that is not supported.
    let names = metadata.path.iter().filter_map(|segment| match segment.segment.as_ref()? {
        Segment::Key(key) => Some(key.clone()),
        Segment::Index(_) => None,
    });
    let names: Vec<String> = names.collect();
    if names.is_empty() {
        findings.missing(&of_key.field("path"), "the first name is the payload_in_metadata of a provider");
    }
    Some(DescriptorPart::Claim {
        key: said.descriptor_key.clone(),
        path: names,
        default: said.default_value.clone(),
        skips: said.skip_if_absent,
    })
}

/// Headers whose values are known when a request comes.
pub(super) fn added(
    said: &[core::HeaderValueOption],
    field: &str,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> HeaderOps {
    let ops = headers::ops(said, &[], (field, ""), path, findings);
    let listed = path.field(field);
    for (at, op) in ops.add.iter().enumerate() {
        if !is_known_at_gate(&op.value) {
            findings.unsupported_value(&listed.at(at).field("header.value"), LATE, LATE_HINT);
        }
    }
    HeaderOps { remove: Vec::new(), ..ops }
}

/// 0 is OVERRIDE, 1 INCLUDE, 2 IGNORE, in both filters; another one is told by the API's own rules.
pub(super) fn host_rates(said: i32) -> HostRates {
    match said {
        1 => HostRates::Include,
        2 => HostRates::Ignore,
        _ => HostRates::Override,
    }
}

/// As in Envoy, what is no error is none of a refusal.
pub(super) fn refusal_status(said: Option<&kinds::HttpStatus>) -> u16 {
    let status = said.and_then(|said| u16::try_from(said.code).ok());
    status.filter(|code| (400..=599).contains(code)).unwrap_or(429)
}

pub(super) fn service(
    said: &rate_service::RateLimit,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> RateService {
    let fraction = |said: &Option<core::RuntimeFractionalPercent>, default: Fraction| {
        said.as_ref().and_then(matching::fraction).unwrap_or(default)
    };
    let denies = if said.failure_mode_deny { Fraction::ALL } else { Fraction::NONE };
    let of_service = path.field("rate_limit_service");
    let asked = said
        .rate_limit_service
        .as_ref()
        .map_or_else(ExternalGrpc::default, |said| grpc(said, &of_service, findings));
    let only = match said.request_type.as_str() {
        "internal" => Some(RateRequests::Internal),
        "external" => Some(RateRequests::External),
        _ => None,
    };
    let status_on_error = said.status_on_error.as_ref().and_then(|said| u16::try_from(said.code).ok());
    let service = RateService {
        stage: said.stage,
        rates: descriptors(&said.rate_limits, Said::ByService, &path.field("rate_limits"), findings),
        only,
        timeout: value::limit(
            &said.timeout,
            Some(defaults::RATE_SERVICE_TIMEOUT),
            &path.field("timeout"),
            findings,
        ),
        denies_failed: fraction(&said.failure_mode_deny_percent, denies),
        status_on_error: status_on_error.filter(|code| *code > 0).unwrap_or(500),
        status: refusal_status(said.rate_limited_status.as_ref()),
        response_headers: added(&said.response_headers_to_add, headers::RESPONSE.0, path, findings),
        enabled: fraction(&said.filter_enabled, Fraction::ALL),
        enforced: fraction(&said.filter_enforced, Fraction::ALL),
        tells: said.enable_x_ratelimit_headers == 1,
        tells_retry: said.enable_retry_after_header,
        marks: !said.disable_x_envoy_ratelimited_header,
        is_resource_exhausted: said.rate_limited_as_resource_exhausted,
        ..RateService::new(asked, said.domain.clone())
    };
    for invalid in service.problems() {
        findings.invalid(path, invalid);
    }
    service
}

fn grpc(
    said: &ratelimit::RateLimitServiceConfig,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> ExternalGrpc {
    if said.transport_api_version() != core::ApiVersion::V3 {
        let text = "the messages of another version than V3 are not known";
        findings.unsupported_value(&path.field("transport_api_version"), text, "write V3");
    }
    let Some(said) = &said.grpc_service else { return ExternalGrpc::default() };
    let path = path.field("grpc_service");
    if said.timeout.is_some() {
        let text = "the time for an answer is the filter's to say";
        findings.unsupported(&path.field("timeout"), text, "say it as timeout of the filter");
    }
    external::grpc_service(said, &path, findings)
}

/// What a route says to it.
pub(super) fn service_of_route(
    said: &rate_service::RateLimitPerRoute,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> RateServiceChange {
    RateServiceChange {
        host_rates: host_rates(said.vh_rate_limits),
        rates: descriptors(&said.rate_limits, Said::ByService, &path.field("rate_limits"), findings),
        domain: said.domain.clone(),
    }
}

/// What this proxy's own cluster is called is said once, for the whole document.
pub(crate) fn name_source(config: &mut Config, cluster: &str) {
    let chains = config.listeners.iter_mut().flat_map(|listener| &mut listener.chains);
    for http in chains.map(|chain| &mut chain.http) {
        let rules = http.routes.virtual_hosts.iter_mut().flat_map(|host| &mut host.rules);
        for change in rules.flat_map(|rule| rule.changes_mut()) {
            match change {
                GateChange::Instead(check) | GateChange::Also(check) => name_in(&mut check.kind, cluster),
                GateChange::Count(_, change) => name_all(&mut change.rates, cluster),
                GateChange::Describe(said) => {
                    name_all(&mut said.own, cluster);
                    name_all(&mut said.of_host, cluster);
                }
                _ => {}
            }
        }
        http.gate.checks.iter_mut().for_each(|check| name_in(&mut check.kind, cluster));
    }
}

fn name_in(kind: &mut CheckKind, cluster: &str) {
    match kind {
        CheckKind::LocalRate(rate) => name_all(&mut rate.rates, cluster),
        CheckKind::RateService(service) => name_all(&mut service.rates, cluster),
        _ => {}
    }
}

fn name_all(all: &mut [Descriptor], cluster: &str) {
    for part in all.iter_mut().flat_map(|descriptor| &mut descriptor.parts) {
        if let DescriptorPart::SourceCluster(name) = part {
            cluster.clone_into(name);
        }
    }
}
