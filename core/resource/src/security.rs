//! Istio's `RequestAuthentication` and `AuthorizationPolicy`: who asks, and may they?

use crate::deployment::LabelSelector;
use crate::traffic_policy::TargetRef;
use crate::{Flag, Meta, Place, Placed, Seconds, Text, Texts};

objects! {
    RequestAuthentication {
        meta: Meta,
        spec: RequestAuthenticationSpec,
    }

    RequestAuthenticationSpec {
        selector: Option<LabelSelector>,
        target_ref: Option<TargetRef>,
        target_refs: Vec<TargetRef>,
        jwt_rules: Vec<JwtRule>,
    }

    JwtRule {
        issuer: Text,
        audiences: Texts,
        jwks_uri: Option<Text>,
        jwks: Option<Text>,
        from_headers: Vec<JwtHeader>,
        from_params: Texts,
        from_cookies: Texts,
        output_payload_to_header: Option<Text>,
        output_claim_to_headers: Vec<ClaimToHeader>,
        forward_original_token: Option<Flag>,
        timeout: Option<Seconds>,
        space_delimited_claims: Texts,
    }

    JwtHeader {
        name: Text,
        prefix: Option<Text>,
    }

    ClaimToHeader {
        header: Text,
        claim: Text,
    }

    AuthorizationPolicy {
        meta: Meta,
        /// `istio.io/dry-run`: only told what it would have said.
        dry_run: Option<Flag>,
        /// Without one it allows nothing.
        spec: Option<AuthorizationPolicySpec>,
    }

    AuthorizationPolicySpec {
        selector: Option<LabelSelector>,
        target_ref: Option<TargetRef>,
        target_refs: Vec<TargetRef>,
        action: Option<Placed<PolicyAction>>,
        provider: Option<PolicyProvider>,
        rules: Vec<PolicyRule>,
    }

    PolicyProvider {
        name: Text,
    }

    PolicyRule {
        from: Vec<From>,
        to: Vec<To>,
        when: Vec<Condition>,
    }

    From {
        source: Option<Source>,
    }

    Source {
        principals: Texts,
        not_principals: Texts,
        request_principals: Texts,
        not_request_principals: Texts,
        namespaces: Texts,
        not_namespaces: Texts,
        service_accounts: Texts,
        not_service_accounts: Texts,
        ip_blocks: Texts,
        not_ip_blocks: Texts,
        remote_ip_blocks: Texts,
        not_remote_ip_blocks: Texts,
        trust_domains: Texts,
        not_trust_domains: Texts,
    }

    To {
        operation: Option<Operation>,
    }

    Operation {
        hosts: Texts,
        not_hosts: Texts,
        ports: Texts,
        not_ports: Texts,
        methods: Texts,
        not_methods: Texts,
        paths: Texts,
        not_paths: Texts,
    }

    Condition {
        key: Text,
        values: Texts,
        not_values: Texts,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyAction {
    Allow,
    Deny,
    Audit,
    Custom,
}
