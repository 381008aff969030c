//! What requests are called for those who count them, and the filter that has a rate limit service count.

use naru_base::Fraction;
use naru_spec::{
    DescribedHeader, Descriptor, DescriptorPart, HeaderTest, HitCount, Hits, HostRates, RateOverride,
    RateRequests, RateService, RateServiceChange,
};

use super::{external, matching, value};
use crate::proto::{
    Any, UInt32Value, UInt64Value, core, kinds, matcher, rate_service, ratelimit, route, xds_core,
};
use crate::schema::pack;
use envoy_types::pb::envoy::r#type::metadata::v3 as metadata;

pub(super) fn descriptors(all: &[Descriptor]) -> Vec<route::RateLimit> {
    all.iter().map(descriptor).collect()
}

fn descriptor(said: &Descriptor) -> route::RateLimit {
    use route::rate_limit::r#override::{OverrideSpecifier, RateLimitOverride};
    let limit = |limit: RateOverride| route::rate_limit::Override {
        override_specifier: Some(OverrideSpecifier::RateLimit(RateLimitOverride {
            requests_per_unit: limit.requests,
            unit: i32::try_from(limit.unit).unwrap_or(0),
        })),
    };
    route::RateLimit {
        stage: (said.stage > 0).then_some(UInt32Value { value: said.stage }),
        actions: said.parts.iter().map(action).collect(),
        limit: said.limit.map(limit),
        hits_addend: said.hits.as_ref().map(hits),
        x_ratelimit_option: said.tells.map_or(0, |tells| if tells { 2 } else { 1 }),
        ..Default::default()
    }
}

fn hits(said: &Hits) -> route::rate_limit::HitsAddend {
    let (number, format) = match &said.count {
        HitCount::Number(number) => (Some(UInt64Value { value: *number }), String::new()),
        HitCount::Format(format) => (None, format.to_string()),
    };
    route::rate_limit::HitsAddend { number, format, is_negative_hits: said.gives_back }
}

fn action(part: &DescriptorPart) -> route::rate_limit::Action {
    use route::rate_limit::action::{self as said, ActionSpecifier as Action};
    let action = match part {
        DescriptorPart::SourceCluster(_) => Action::SourceCluster(said::SourceCluster {}),
        DescriptorPart::DestinationCluster => Action::DestinationCluster(said::DestinationCluster {}),
        DescriptorPart::Header { name, key, skips } => Action::RequestHeaders(said::RequestHeaders {
            header_name: name.clone(),
            descriptor_key: key.clone(),
            skip_if_absent: *skips,
        }),
        DescriptorPart::QueryParameter { name, key, skips } => {
            Action::QueryParameters(said::QueryParameters {
                query_parameter_name: name.clone(),
                descriptor_key: key.clone(),
                skip_if_absent: *skips,
            })
        }
        DescriptorPart::RemoteAddress => Action::RemoteAddress(said::RemoteAddress {}),
        DescriptorPart::MaskedRemoteAddress { v4_bits, v6_bits } => {
            Action::MaskedRemoteAddress(said::MaskedRemoteAddress {
                v4_prefix_mask_len: Some(value::number(u32::from(*v4_bits))),
                v6_prefix_mask_len: Some(value::number(u32::from(*v6_bits))),
            })
        }
        DescriptorPart::Literal { key, value } => Action::GenericKey(said::GenericKey {
            descriptor_key: key.clone(),
            descriptor_value: value.clone(),
            ..Default::default()
        }),
        DescriptorPart::Headers { key, value, expects, tests } => {
            Action::HeaderValueMatch(said::HeaderValueMatch {
                descriptor_key: key.clone(),
                descriptor_value: value.clone(),
                expect_match: Some(value::flag(*expects)),
                headers: tests.iter().map(header).collect(),
                ..Default::default()
            })
        }
        DescriptorPart::Query { key, value, expects, tests } => {
            Action::QueryParameterValueMatch(said::QueryParameterValueMatch {
                descriptor_key: key.clone(),
                descriptor_value: value.clone(),
                expect_match: Some(value::flag(*expects)),
                query_parameters: tests.iter().map(matching::query).collect(),
                ..Default::default()
            })
        }
        DescriptorPart::AddressMatch { key, value, default, networks, inverts } => {
            let ranges = networks.iter().map(|network| xds_core::CidrRange {
                address_prefix: network.addr().to_string(),
                prefix_len: Some(value::number(u32::from(network.prefix_len()))),
            });
            Action::RemoteAddressMatch(said::RemoteAddressMatch {
                descriptor_key: key.clone(),
                descriptor_value: value.to_string(),
                default_value: default.clone(),
                address_matcher: Some(matcher::AddressMatcher {
                    ranges: ranges.collect(),
                    invert_match: *inverts,
                }),
            })
        }
        DescriptorPart::Claim { key, path, default, skips } => {
            use metadata::metadata_key::{PathSegment, path_segment::Segment};
            let path = path.iter().map(|name| PathSegment { segment: Some(Segment::Key(name.clone())) });
            Action::Metadata(said::MetaData {
                descriptor_key: key.clone(),
                metadata_key: Some(metadata::MetadataKey {
                    key: "envoy.filters.http.jwt_authn".to_owned(),
                    path: path.collect(),
                }),
                default_value: default.clone(),
                skip_if_absent: *skips,
                ..Default::default()
            })
        }
    };
    route::rate_limit::Action { action_specifier: Some(action) }
}

fn header(said: &DescribedHeader) -> route::HeaderMatcher {
    match said {
        DescribedHeader::Own(own) => matching::header(own),
        DescribedHeader::Pseudo { which, test, inverts } => {
            let test = test.clone().map_or(HeaderTest::Present(true), HeaderTest::Value);
            matching::header_matcher(which.name(), test, *inverts, false)
        }
    }
}

pub(super) fn host_rates(said: HostRates) -> i32 {
    match said {
        HostRates::Override => 0,
        HostRates::Include => 1,
        HostRates::Ignore => 2,
    }
}

pub(super) fn service(said: &RateService) -> rate_service::RateLimit {
    let fraction = |said: Fraction| (said != Fraction::ALL).then(|| matching::fraction(said));
    let denies_all = said.denies_failed == Fraction::ALL;
    let denies_part = !denies_all && said.denies_failed != Fraction::NONE;
    rate_service::RateLimit {
        domain: said.domain.clone(),
        stage: said.stage,
        request_type: match said.only {
            None => String::new(),
            Some(RateRequests::Internal) => "internal".to_owned(),
            Some(RateRequests::External) => "external".to_owned(),
        },
        timeout: Some(value::limit(said.timeout)),
        failure_mode_deny: denies_all,
        failure_mode_deny_percent: denies_part.then(|| matching::fraction(said.denies_failed)),
        rate_limited_as_resource_exhausted: said.is_resource_exhausted,
        rate_limit_service: Some(ratelimit::RateLimitServiceConfig {
            grpc_service: Some(external::grpc_service(&said.service)),
            transport_api_version: core::ApiVersion::V3.into(),
        }),
        enable_x_ratelimit_headers: said.tells.into(),
        enable_retry_after_header: said.tells_retry,
        disable_x_envoy_ratelimited_header: !said.marks,
        rate_limited_status: Some(kinds::HttpStatus { code: said.status.into() }),
        response_headers_to_add: value::additions(&said.response_headers),
        status_on_error: Some(kinds::HttpStatus { code: said.status_on_error.into() }),
        filter_enabled: fraction(said.enabled),
        filter_enforced: fraction(said.enforced),
        rate_limits: descriptors(&said.rates),
        ..Default::default()
    }
}

/// What a rule says to it.
pub(super) fn service_of_rule(change: &RateServiceChange) -> Any {
    pack(&rate_service::RateLimitPerRoute {
        vh_rate_limits: host_rates(change.host_rates),
        rate_limits: descriptors(&change.rates),
        domain: change.domain.clone(),
        ..Default::default()
    })
}
