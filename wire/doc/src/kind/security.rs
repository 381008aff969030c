//! Who asks, and may they.

use naru_resource::security::{self, AuthorizationPolicy, PolicyAction};
use naru_resource::{Flag, Placed};
use naru_spec::{Path, code};

use crate::kind::{document, field};
use crate::read::{Fields, Read, Reader, record, words};
use crate::tree::{Kind, Node};

document!(security::RequestAuthentication { spec: "spec" });
record!(security::RequestAuthenticationSpec {
    selector: "selector",
    target_ref: "targetRef",
    target_refs: "targetRefs",
    jwt_rules: "jwtRules",
});
record!(security::JwtRule {
    issuer: "issuer",
    audiences: "audiences",
    jwks_uri: "jwksUri",
    jwks: "jwks",
    from_headers: "fromHeaders",
    from_params: "fromParams",
    from_cookies: "fromCookies",
    output_payload_to_header: "outputPayloadToHeader",
    output_claim_to_headers: "outputClaimToHeaders",
    forward_original_token: "forwardOriginalToken",
    timeout: "timeout",
    space_delimited_claims: "spaceDelimitedClaims",
});
record!(security::JwtHeader { name: "name", prefix: "prefix" });
record!(security::ClaimToHeader { header: "header", claim: "claim" });

const DRY_RUN: &str = "istio.io/dry-run";

impl Read for AuthorizationPolicy {
    fn read(node: &Node, path: &Path<'_>, reader: &mut Reader<'_>) -> Option<AuthorizationPolicy> {
        let dry_run = dry_run(node, path, reader);
        let mut fields = Fields::of(node, path, reader)?;
        let place = fields.place(reader);
        fields.pass_by(&["apiVersion", "kind", "status"], reader);
        let (meta, spec) = (fields.take("metadata", reader), fields.take("spec", reader));
        fields.finish(reader);
        Some(AuthorizationPolicy { place, meta: meta?, dry_run: dry_run?, spec: spec? })
    }
}

/// `None` where it is told why there is none. Istio takes what is neither for false: then a policy acts that was not
/// meant to.
fn dry_run(node: &Node, path: &Path<'_>, reader: &mut Reader<'_>) -> Option<Option<Flag>> {
    let annotations = field(node, "metadata").and_then(|metadata| field(metadata, "annotations"));
    let Some(said) = annotations.and_then(|annotations| field(annotations, DRY_RUN)) else {
        return Some(None);
    };
    let value = match &said.kind {
        Kind::Text(text) if text == "true" => true,
        Kind::Text(text) if text == "false" => false,
        _ => {
            let path = path.field("metadata.annotations").field(DRY_RUN).to_string();
            let message = "it is neither 'true' nor 'false'";
            reader.error(code::INVALID_VALUE, said.position, &Path::ROOT.field(&path), message, "");
            return None;
        }
    };
    Some(Some(Placed { value, place: reader.place(said.position) }))
}

record!(security::AuthorizationPolicySpec {
    selector: "selector",
    target_ref: "targetRef",
    target_refs: "targetRefs",
    action: "action",
    provider: "provider",
    rules: "rules",
});
words!(PolicyAction {
    "ALLOW" => PolicyAction::Allow,
    "DENY" => PolicyAction::Deny,
    "AUDIT" => PolicyAction::Audit,
    "CUSTOM" => PolicyAction::Custom,
});
record!(security::PolicyProvider { name: "name" });
record!(security::PolicyRule { from: "from", to: "to", when: "when" });
record!(security::From { source: "source" });
record!(security::Source {
    principals: "principals",
    not_principals: "notPrincipals",
    request_principals: "requestPrincipals",
    not_request_principals: "notRequestPrincipals",
    namespaces: "namespaces",
    not_namespaces: "notNamespaces",
    service_accounts: "serviceAccounts",
    not_service_accounts: "notServiceAccounts",
    ip_blocks: "ipBlocks",
    not_ip_blocks: "notIpBlocks",
    remote_ip_blocks: "remoteIpBlocks",
    not_remote_ip_blocks: "notRemoteIpBlocks",
    trust_domains: "trustDomains",
    not_trust_domains: "notTrustDomains",
});
record!(security::To { operation: "operation" });
record!(security::Operation {
    hosts: "hosts",
    not_hosts: "notHosts",
    ports: "ports",
    not_ports: "notPorts",
    methods: "methods",
    not_methods: "notMethods",
    paths: "paths",
    not_paths: "notPaths",
});
record!(security::Condition { key: "key", values: "values", not_values: "notValues" });
