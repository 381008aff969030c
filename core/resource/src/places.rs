//! In which files does something stand beside VirtualServices?

use std::collections::BTreeSet;

use crate::{FileId, Resources};

/// Every list but that of VirtualServices. One that is missing here does not compile.
macro_rules! others {
    ($($list:ident),* $(,)?) => {
        impl Resources {
            /// The files that hold documents of any kind but VirtualService.
            pub fn files_of_others(&self) -> BTreeSet<FileId> {
                let Resources { files: _, virtual_services: _, $($list),* } = self;
                let mut files = BTreeSet::new();
                $(files.extend($list.iter().map(|document| document.place.file));)*
                files
            }

            /// Adds what was read of another file.
            pub fn append(&mut self, other: &Resources) {
                let Resources { files: _, virtual_services, $($list),* } = other;
                self.virtual_services.extend_from_slice(virtual_services);
                $(self.$list.extend_from_slice($list);)*
            }
        }
    };
}

others! {
    destination_rules, gateways, service_entries, workload_entries, workload_groups, sidecars, gateway_classes,
    api_gateways, http_routes, grpc_routes, tls_routes, tcp_routes, reference_grants, backend_tls_policies, services,
    endpoints, endpoint_slices, deployments, secrets, config_maps, namespaces, pods, traffic_policies, acme_issuers,
    session_auths, bulkheads, rate_limits, circuit_breakers, retries, edge_policies, response_caches, surges,
    compressions, static_files, request_authentications, authorization_policies, mesh_configs,
}
