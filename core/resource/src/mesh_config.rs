//! What holds for all of a mesh: Istio's `MeshConfig`, as a document of its own or in one of Istio's.

use crate::{Flag, Number, Place, Seconds, Text, Texts};

objects! {
    MeshConfig {
        extension_providers: Vec<ExtensionProvider>,
    }

    /// Somebody whom policies call by name.
    ExtensionProvider {
        name: Text,
        envoy_ext_authz_http: Option<ExtAuthzHttp>,
        envoy_ext_authz_grpc: Option<ExtAuthzGrpc>,
    }

    ExtAuthzHttp {
        /// `[NAMESPACE/]HOST`.
        service: Text,
        port: Number,
        timeout: Option<Seconds>,
        path_prefix: Option<Text>,
        fail_open: Option<Flag>,
        status_on_error: Option<Text>,
        /// The older name of what follows.
        include_headers_in_check: Texts,
        include_request_headers_in_check: Texts,
        include_additional_headers_in_check: Vec<(Text, Text)>,
        include_request_body_in_check: Option<ExtAuthzBody>,
        headers_to_upstream_on_allow: Texts,
        headers_to_downstream_on_deny: Texts,
        headers_to_downstream_on_allow: Texts,
        clear_route_cache: Option<Flag>,
    }

    ExtAuthzGrpc {
        service: Text,
        port: Number,
        timeout: Option<Seconds>,
        fail_open: Option<Flag>,
        status_on_error: Option<Text>,
        include_request_body_in_check: Option<ExtAuthzBody>,
        clear_route_cache: Option<Flag>,
    }

    ExtAuthzBody {
        max_request_bytes: Number,
        allow_partial_message: Option<Flag>,
        pack_as_bytes: Option<Flag>,
    }
}
