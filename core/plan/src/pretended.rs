//! Processes that run on virtual time: where would they be?

use std::net::Ipv4Addr;

use naru_resource::Resources;

use crate::{Instance, InstancePort, Process, processes};

/// Every replica of every Deployment that has a command: the M-th of the N-th at `10.1.N.M`, on the ports of
/// its container.
pub fn pretended(resources: &Resources) -> Vec<Instance> {
    processes(resources).iter().enumerate().flat_map(replicas).collect()
}

fn replicas((at, process): (usize, &Process)) -> Vec<Instance> {
    let octet = |number: usize| u8::try_from(number % 250 + 1).unwrap_or(1);
    let ports: Vec<InstancePort> = process
        .ports
        .iter()
        .map(|port| InstancePort {
            name: port.name.clone(),
            container_port: port.container_port,
            port: port.container_port,
        })
        .collect();
    (0..process.replicas as usize)
        .map(|replica| Instance {
            namespace: process.namespace.clone(),
            labels: process.labels.clone(),
            address: Ipv4Addr::new(10, 1, octet(at), octet(replica)).into(),
            ports: if ports.is_empty() {
                vec![InstancePort { name: None, container_port: 0, port: 8_080 }]
            } else {
                ports.clone()
            },
        })
        .collect()
}
