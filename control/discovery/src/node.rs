//! Who is it that asks, and what is he to be given?
//!
//! A node says in its metadata what it is, in our words or in Istio's: `role` (`gateway`, `sidecar`; with Istio the
//! beginning of the id, `router~` or `sidecar~`), `namespace`, `labels`, `workload`. All of it is believed: whoever may
//! connect may ask for whatever there is.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use naru_resource::meta::DEFAULT_NAMESPACE;
use naru_xds::discovery::{Dialect, HOSTS_APART, Node, Struct, UserAgentVersionType, value::Kind};

/// Where a sidecar takes calls, unless it says otherwise.
const OUTBOUND: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 15_001);
/// As in Kubernetes.
pub const DEFAULT_ACCOUNT: &str = "default";
/// Of one text that a node says of itself.
const TEXT_BYTES_MAX: usize = 1_000;
const LABELS_MAX: usize = 100;

/// All that decides what a node is given: those who are alike here are given the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Role {
    pub dialect: Dialect,
    /// Virtual hosts come by themselves, each when it has changed.
    pub is_by_host: bool,
    pub part: Part,
    pub namespace: String,
    /// Of its namespace: who it is to others of the mesh. Empty where nobody knows it.
    pub account: String,
    /// In the order of their names.
    pub labels: Vec<(String, String)>,
    pub workload: String,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The gateways whose selector its labels have; all of them, where it has no labels. Those that do not say where
    /// they listen listen here.
    Gateway { address: IpAddr },
    /// Takes the calls of one workload at `address`, and those to it at `inbound`, where its Sidecar does not say where.
    Sidecar { address: SocketAddr, inbound: IpAddr },
    /// Is a workload that calls by itself.
    Client,
}

impl Part {
    pub fn name(&self) -> &'static str {
        match self {
            Part::Gateway { .. } => "gateway",
            Part::Sidecar { .. } => "sidecar",
            Part::Client => "client",
        }
    }
}

/// What a node says of itself that decides nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub id: String,
    /// Name and version of its program.
    pub agent: String,
}

/// `Err` says to the node what is wrong.
pub fn read(node: &Node) -> Result<(Identity, Role), String> {
    let empty = Struct::default();
    let metadata = node.metadata.as_ref().unwrap_or(&empty);
    let dialect = Dialect::of_agent(&node.user_agent_name);
    let agent = match &node.user_agent_version_type {
        Some(UserAgentVersionType::UserAgentVersion(version)) => {
            format!("{} {version}", node.user_agent_name)
        }
        Some(UserAgentVersionType::UserAgentBuildVersion(build)) => {
            let version = build.version.unwrap_or_default();
            let (major, minor, patch) = (version.major_number, version.minor_number, version.patch);
            format!("{} {major}.{minor}.{patch}", node.user_agent_name)
        }
        None => node.user_agent_name.clone(),
    };
    let identity = Identity { id: short("id", &node.id)?, agent: short("user_agent_name", &agent)? };
    let namespace = text(metadata, &["namespace", "NAMESPACE"])?;
    let workload = text(metadata, &["workload", "WORKLOAD_NAME"])?.unwrap_or_default();
    let account = text(metadata, &["service_account", "SERVICE_ACCOUNT"])?;
    let account = account.unwrap_or_default();
    let namespace = namespace.unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned());
    for (name, said) in [("namespace", &namespace), ("service_account", &account)] {
        // They are parts of a SPIFFE id, which nobody is to make longer.
        if !said.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)) {
            return Err(format!(
                "node.metadata.{name}: '{said}' has other characters than a-z, 0-9, -, . and _"
            ));
        }
    }
    let role = Role {
        dialect,
        is_by_host: dialect == Dialect::Naru && node.client_features.iter().any(|said| said == HOSTS_APART),
        part: part(dialect, node, metadata)?,
        namespace,
        account,
        labels: labels(metadata)?,
        workload,
    };
    Ok((identity, role))
}

fn part(dialect: Dialect, node: &Node, metadata: &Struct) -> Result<Part, String> {
    if dialect == Dialect::Grpc {
        return Ok(Part::Client);
    }
    let of_id = match node.id.split('~').next() {
        Some("sidecar") => "sidecar",
        _ => "gateway",
    };
    let said = text(metadata, &["role"])?;
    match said.as_deref().unwrap_or(of_id) {
        "gateway" => {
            let address = address(metadata, "gateway_address")?;
            Ok(Part::Gateway { address: address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)) })
        }
        "sidecar" => {
            let outbound = address(metadata, "outbound_address")?;
            let own = address(metadata, "inbound_address")?;
            Ok(Part::Sidecar {
                address: outbound.unwrap_or(OUTBOUND),
                inbound: own.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            })
        }
        other => Err(format!("node.metadata.role is 'gateway' or 'sidecar', not '{other}'")),
    }
}

fn address<A: std::str::FromStr>(metadata: &Struct, name: &str) -> Result<Option<A>, String> {
    let Some(said) = text(metadata, &[name])? else { return Ok(None) };
    said.parse().map(Some).map_err(|_| format!("node.metadata.{name}: '{said}' is no address"))
}

/// The first of these names that is said.
pub(crate) fn text(metadata: &Struct, names: &[&str]) -> Result<Option<String>, String> {
    let found = names.iter().find_map(|name| Some((*name, metadata.fields.get(*name)?)));
    match found {
        None => Ok(None),
        Some((name, value)) => match &value.kind {
            Some(Kind::StringValue(text)) => short(name, text).map(Some),
            _ => Err(format!("node.metadata.{name} is a text")),
        },
    }
}

fn labels(metadata: &Struct) -> Result<Vec<(String, String)>, String> {
    let said = metadata.fields.get("labels").or_else(|| metadata.fields.get("LABELS"));
    let Some(said) = said else { return Ok(Vec::new()) };
    let Some(Kind::StructValue(fields)) = &said.kind else {
        return Err("node.metadata.labels is a mapping".to_owned());
    };
    if fields.fields.len() > LABELS_MAX {
        return Err(format!("node.metadata.labels has more than {LABELS_MAX}"));
    }
    let mut labels = Vec::new();
    for (name, value) in &fields.fields {
        let Some(Kind::StringValue(value)) = &value.kind else {
            return Err("node.metadata.labels holds texts".to_owned());
        };
        labels.push((short("labels", name)?, short("labels", value)?));
    }
    labels.sort();
    Ok(labels)
}

fn short(name: &str, text: &str) -> Result<String, String> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(format!("node: {name} has more than {TEXT_BYTES_MAX} bytes"));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use naru_xds::discovery::{Dialect, Node, Struct, Value, value::Kind};

    use super::{Part, Role, read};

    fn text(text: &str) -> Value {
        Value { kind: Some(Kind::StringValue(text.to_owned())) }
    }

    fn node(agent: &str, id: &str, metadata: &[(&str, Value)]) -> Node {
        let fields = metadata.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        Node {
            id: id.to_owned(),
            user_agent_name: agent.to_owned(),
            metadata: Some(Struct { fields }),
            ..Node::default()
        }
    }

    fn role(agent: &str, id: &str, metadata: &[(&str, Value)]) -> Result<Role, String> {
        read(&node(agent, id, metadata)).map(|(_, role)| role)
    }

    #[test]
    fn a_node_is_what_it_says() {
        let labels = Struct { fields: [("b".to_owned(), text("2")), ("a".to_owned(), text("1"))].into() };
        let labels = Value { kind: Some(Kind::StructValue(labels)) };
        let said =
            role("envoy", "edge-1", &[("labels", labels.clone()), ("namespace", text("shop"))]).unwrap();
        assert_eq!(said.dialect, Dialect::Envoy);
        assert_eq!(said.part, Part::Gateway { address: [0, 0, 0, 0].into() });
        assert_eq!(said.namespace, "shop");
        assert_eq!(said.labels, [("a".into(), "1".into()), ("b".into(), "2".into())]);

        let everywhere = [0, 0, 0, 0].into();
        let sidecar = Part::Sidecar { address: ([127, 0, 0, 1], 15_001).into(), inbound: everywhere };
        // In Istio's words.
        let id = "sidecar~10.0.0.1~a.shop~shop.svc.cluster.local";
        let istio = role("envoy", id, &[("LABELS", labels), ("NAMESPACE", text("shop"))]).unwrap();
        assert_eq!((istio.part, istio.namespace.as_str(), istio.labels.len()), (sidecar.clone(), "shop", 2));
        assert_eq!(role("naru", "x", &[("role", text("sidecar"))]).unwrap().part, sidecar);
        let there = role("naru", "x", &[("role", text("sidecar")), ("outbound_address", text("[::1]:99"))]);
        let address = "[::1]:99".parse().unwrap();
        assert_eq!(there.unwrap().part, Part::Sidecar { address, inbound: everywhere });
        let own = Part::Sidecar { address: super::OUTBOUND, inbound: [10, 0, 0, 7].into() };
        let there = role("naru", "x", &[("role", text("sidecar")), ("inbound_address", text("10.0.0.7"))]);
        assert_eq!(there.unwrap().part, own);
        for agent in ["gRPC C-core", "gRPC Node Pure JS", "gRPC Go", "gRPC Java"] {
            let role = role(agent, "x", &[]).unwrap();
            assert_eq!((role.dialect, role.part), (Dialect::Grpc, Part::Client));
        }
    }

    #[test]
    fn what_makes_no_sense_is_told() {
        let check = |metadata: &[(&str, Value)], expected: &str| {
            assert_eq!(role("envoy", "x", metadata), Err(expected.to_owned()));
        };
        check(&[("role", text("king"))], "node.metadata.role is 'gateway' or 'sidecar', not 'king'");
        check(&[("role", Value::default())], "node.metadata.role is a text");
        check(&[("gateway_address", text("here"))], "node.metadata.gateway_address: 'here' is no address");
        let longer = "node.metadata.namespace: 'a/sa/b' has other characters than a-z, 0-9, -, . and _";
        check(&[("namespace", text("a/sa/b"))], longer);
        let longer = "node.metadata.service_account: 'a/b' has other characters than a-z, 0-9, -, . and _";
        check(&[("SERVICE_ACCOUNT", text("a/b"))], longer);
        check(&[("labels", text("a=b"))], "node.metadata.labels is a mapping");
        check(&[("namespace", text(&"n".repeat(1_001)))], "node: namespace has more than 1000 bytes");
    }
}
