//! What holds for all of a mesh.
//!
//! It is written as a `MeshConfig` of ours, as `spec.meshConfig` of an `IstioOperator`, or as the text `data.mesh` of the
//! ConfigMap `istio`. Istio's say much more than naru acts on: that is told, field by field.

use naru_resource::Resources;
use naru_resource::mesh_config::{ExtAuthzBody, ExtAuthzGrpc, ExtAuthzHttp, ExtensionProvider, MeshConfig};
use naru_spec::{Path, Severity, code};

use crate::kind::field;
use crate::read::{Fields, Read, Reader, record};
use crate::tree::{Kind, Node, Position, parse};

impl Read for MeshConfig {
    fn read(node: &Node, path: &Path<'_>, reader: &mut Reader<'_>) -> Option<MeshConfig> {
        let mut fields = Fields::of(node, path, reader)?;
        fields.pass_by(&["apiVersion", "kind", "metadata", "status"], reader);
        let spec: Option<Said> = fields.take("spec", reader);
        fields.finish(reader);
        spec.map(|said| said.0)
    }
}

/// The fields of ours.
struct Said(MeshConfig);

impl Read for Said {
    fn read(node: &Node, path: &Path<'_>, reader: &mut Reader<'_>) -> Option<Said> {
        let mut fields = Fields::of(node, path, reader)?;
        let place = fields.place(reader);
        let extension_providers = fields.take("extensionProviders", reader);
        fields.finish(reader);
        Some(Said(MeshConfig { place, extension_providers: extension_providers? }))
    }
}

/// Of an `IstioOperator`, whose other fields are about what is installed.
pub(super) fn operator(node: &Node, reader: &mut Reader<'_>, resources: &mut Resources) {
    let Some(spec) = field(node, "spec") else { return };
    if let Some(mesh) = field(spec, "meshConfig") {
        let spec = Path::ROOT.field("spec");
        istios(mesh, &spec.field("meshConfig"), reader, resources);
    }
}

/// Of the ConfigMap that Istio reads.
pub(super) fn config_map(node: &Node, reader: &mut Reader<'_>, resources: &mut Resources) {
    let name = field(node, "metadata").and_then(|meta| field(meta, "name")).map(|name| &name.kind);
    let mesh = field(node, "data").and_then(|data| field(data, "mesh"));
    let (Some(Kind::Text(name)), Some(mesh)) = (name, mesh) else { return };
    let Kind::Text(text) = &mesh.kind else { return };
    if name != "istio" {
        return;
    }
    let data = Path::ROOT.field("data");
    let path = data.field("mesh");
    match parse(text) {
        Ok(mut inner) => {
            // Where a line of the text stands in the file nobody knows.
            put(&mut inner, mesh.position);
            istios(&inner, &path, reader, resources);
        }
        Err(error) => reader.error(code::SYNTAX, mesh.position, &path, error.message, ""),
    }
}

fn put(node: &mut Node, position: Position) {
    node.position = position;
    match &mut node.kind {
        Kind::List(items) => items.iter_mut().for_each(|item| put(item, position)),
        Kind::Map(entries) => {
            for entry in entries {
                entry.key_position = position;
                put(&mut entry.node, position);
            }
        }
        Kind::Null | Kind::Bool(_) | Kind::Integer(_) | Kind::Float(_) | Kind::Text(_) => {}
    }
}

fn istios(node: &Node, path: &Path<'_>, reader: &mut Reader<'_>, resources: &mut Resources) {
    let Kind::Map(entries) = &node.kind else {
        reader.wrong_type(node, path, "a mapping");
        return;
    };
    for entry in entries.iter().filter(|entry| entry.key != "extensionProviders") {
        let path = path.field(&entry.key);
        let message = format!("naru does not act on '{}' of a mesh", entry.key);
        reader.tell(Severity::Warning, code::NOT_YET, entry.key_position, &path, message, "");
    }
    if let Some(list) = field(node, "extensionProviders") {
        let place = reader.place(list.position);
        let read = Read::read(list, &path.field("extensionProviders"), reader);
        resources
            .mesh_configs
            .extend(read.map(|extension_providers| MeshConfig { place, extension_providers }));
    }
}

/// Those that tell somebody of requests, and ask nobody.
const OTHERS: &[&str] = &[
    "zipkin",
    "lightstep",
    "datadog",
    "stackdriver",
    "opencensus",
    "skywalking",
    "opentelemetry",
    "prometheus",
    "envoyFileAccessLog",
    "envoyHttpAls",
    "envoyTcpAls",
    "envoyOtelAls",
    "sds",
];

impl Read for ExtensionProvider {
    fn read(node: &Node, path: &Path<'_>, reader: &mut Reader<'_>) -> Option<ExtensionProvider> {
        let mut fields = Fields::of(node, path, reader)?;
        let place = fields.place(reader);
        let name = fields.take("name", reader);
        let envoy_ext_authz_http = fields.take("envoyExtAuthzHttp", reader);
        let envoy_ext_authz_grpc = fields.take("envoyExtAuthzGrpc", reader);
        let others = fields.pass_by(OTHERS, reader);
        fields.finish(reader);
        for other in others {
            let message = format!("naru does not act on a provider of the kind '{}'", other.value);
            let position = Position { line: other.place.line, column: other.place.column };
            let path = path.field(&other.value);
            reader.tell(Severity::Warning, code::NOT_YET, position, &path, message, "");
        }
        Some(ExtensionProvider {
            place,
            name: name?,
            envoy_ext_authz_http: envoy_ext_authz_http?,
            envoy_ext_authz_grpc: envoy_ext_authz_grpc?,
        })
    }
}

record!(ExtAuthzHttp {
    service: "service",
    port: "port",
    timeout: "timeout",
    path_prefix: "pathPrefix",
    fail_open: "failOpen",
    status_on_error: "statusOnError",
    include_headers_in_check: "includeHeadersInCheck",
    include_request_headers_in_check: "includeRequestHeadersInCheck",
    include_additional_headers_in_check: "includeAdditionalHeadersInCheck",
    include_request_body_in_check: "includeRequestBodyInCheck",
    headers_to_upstream_on_allow: "headersToUpstreamOnAllow",
    headers_to_downstream_on_deny: "headersToDownstreamOnDeny",
    headers_to_downstream_on_allow: "headersToDownstreamOnAllow",
    clear_route_cache: "clearRouteCache",
});
record!(ExtAuthzGrpc {
    service: "service",
    port: "port",
    timeout: "timeout",
    fail_open: "failOpen",
    status_on_error: "statusOnError",
    include_request_body_in_check: "includeRequestBodyInCheck",
    clear_route_cache: "clearRouteCache",
});
record!(ExtAuthzBody {
    max_request_bytes: "maxRequestBytes",
    allow_partial_message: "allowPartialMessage",
    pack_as_bytes: "packAsBytes",
});
