//! Ports of a service: `ports` in both of its forms, and `expose`.

use naru_doc::tree::{Kind, Node, Position};

use super::said::{Reader, plain};
use crate::field;
use crate::notes::code;

/// A port of the container: what other services call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Port {
    pub container: u16,
    pub is_udp: bool,
    published: Option<u16>,
}

/// A range that is longer is a mistake.
const RANGE_MAX: u16 = 100;

/// Ports that speak something else than HTTP, by the protocol's name.
const NOT_HTTP: &[(u16, &str)] = &[
    (1433, "mssql"),
    (2181, "zookeeper"),
    (3306, "mysql"),
    (5432, "postgres"),
    (5672, "amqp"),
    (6379, "redis"),
    (9092, "kafka"),
    (11211, "memcached"),
    (27017, "mongo"),
];

/// What images listen on that everybody knows.
const OF_IMAGES: &[(&str, u16)] = &[
    ("elasticsearch", 9200),
    ("httpd", 80),
    ("kafka", 9092),
    ("mariadb", 3306),
    ("memcached", 11211),
    ("mongo", 27017),
    ("mysql", 3306),
    ("nginx", 80),
    ("postgres", 5432),
    ("rabbitmq", 5672),
    ("redis", 6379),
    ("valkey", 6379),
];

pub(super) fn of_image(name: &str) -> Option<u16> {
    OF_IMAGES.iter().find(|(image, _)| *image == name).map(|(_, port)| *port)
}

impl Port {
    pub fn tcp(container: u16) -> Port {
        Port { container, is_udp: false, published: None }
    }

    /// The name tells the protocol, as Istio reads it.
    pub fn name(&self) -> String {
        let number = self.container;
        if self.is_udp {
            return format!("udp-{number}");
        }
        match NOT_HTTP.iter().find(|(known, _)| *known == number) {
            Some((_, protocol)) => format!("tcp-{protocol}"),
            None if [443, 8443].contains(&number) => format!("https-{number}"),
            None => format!("http-{number}"),
        }
    }
}

/// In the order of the file, each once.
pub(super) fn of(service: &Node, mut reader: Option<&mut Reader<'_, '_>>) -> Vec<Port> {
    let mut found: Vec<Port> = Vec::new();
    for name in ["ports", "expose"] {
        let Some(Kind::List(items)) = field(service, name).map(|node| &node.kind) else { continue };
        for item in items {
            let ports = match &item.kind {
                Kind::Map(_) => long(item).map(|port| vec![port]),
                _ => plain(item).and_then(|text| short(&text)),
            };
            let Some(ports) = ports else {
                if let Some(reader) = &mut reader {
                    let message = "this port cannot be read: it is left out".to_owned();
                    reader.warning(code::NOT_CARRIED_OVER, item.position, name, message, "");
                }
                continue;
            };
            for port in ports {
                if let (Some(published), Some(reader)) = (port.published, &mut reader) {
                    tell_published(published, port.container, item.position, reader);
                }
                let is_known =
                    |known: &Port| (known.container, known.is_udp) == (port.container, port.is_udp);
                if !found.iter().any(is_known) {
                    found.push(port);
                }
            }
        }
    }
    found
}

fn tell_published(published: u16, container: u16, at: Position, reader: &mut Reader<'_, '_>) {
    let message = format!("port {published} of the host does not lead to the container's {container} here");
    reader.note(code::TO_DO, at, "ports", message, "a Gateway and a VirtualService let clients in");
}

fn long(node: &Node) -> Option<Port> {
    let number = |name: &str| field(node, name).and_then(plain).and_then(|text| port(&text));
    let protocol = field(node, "protocol").and_then(plain).unwrap_or_default();
    Some(Port { container: number("target")?, is_udp: protocol == "udp", published: number("published") })
}

/// `8080`, `80:8080`, `127.0.0.1:80:8080/tcp`, `3000-3005`, `9090-9091:8080-8081`
fn short(text: &str) -> Option<Vec<Port>> {
    let (text, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let is_udp = match protocol {
        "tcp" => false,
        "udp" => true,
        _ => return None,
    };
    // Of an address of IPv6 the last two parts are still the ports.
    let mut parts = text.rsplit(':');
    let (first, last) = range(parts.next()?)?;
    let published = match parts.next() {
        None | Some("") => None,
        Some(text) => Some(range(text)?),
    };
    if last - first >= RANGE_MAX {
        return None;
    }
    let port = |container: u16| {
        // One for one where the ranges are as long as each other.
        let published = published.and_then(|(from, to)| {
            let port = from.checked_add(container - first)?;
            (port <= to).then_some(port)
        });
        Port { container, is_udp, published }
    };
    Some((first..=last).map(port).collect())
}

fn range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (port(first)?, port(last)?);
    (first <= last).then_some((first, last))
}

fn port(text: &str) -> Option<u16> {
    text.parse().ok().filter(|port| *port > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_written_in_many_ways() {
        let check = |text: &str, expected: Option<&[(u16, Option<u16>)]>| {
            let found = short(text);
            let found =
                found.map(|ports| ports.iter().map(|p| (p.container, p.published)).collect::<Vec<_>>());
            assert_eq!(found.as_deref(), expected, "{text}");
        };
        check("8080", Some(&[(8080, None)]));
        check("80:8080", Some(&[(8080, Some(80))]));
        check("127.0.0.1:80:8080/tcp", Some(&[(8080, Some(80))]));
        check("127.0.0.1::8080", Some(&[(8080, None)]));
        check("3000-3001", Some(&[(3000, None), (3001, None)]));
        check("90-91:80-81", Some(&[(80, Some(90)), (81, Some(91))]));
        check("0", None);
        check("70000", None);
        check("2-1", None);
        check("1-65535", None);
        check("80/sctp", None);
        check("", None);
        assert!(short("53/udp").is_some_and(|ports| ports[0].is_udp));
    }
}
