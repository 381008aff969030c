//! Istio's names of clusters: of which service, port and subset is it?

use std::fmt;

/// `outbound|80|v1|orders.default.svc.cluster.local`, and `outbound_.80_.v1_.orders.default.svc.cluster.local` where TLS
/// goes on as it came, by its server name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterName<'a> {
    pub port: u16,
    /// Empty for the whole service.
    pub subset: &'a str,
    pub host: &'a str,
    pub is_passed: bool,
}

impl<'a> ClusterName<'a> {
    /// `None` for one that is called otherwise.
    pub fn read(name: &'a str) -> Option<ClusterName<'a>> {
        let (rest, between, is_passed) = match name.strip_prefix("outbound|") {
            Some(rest) => (rest, "|", false),
            None => (name.strip_prefix("outbound_.")?, "_.", true),
        };
        let mut parts = rest.splitn(3, between);
        let port = parts.next()?.parse().ok()?;
        Some(ClusterName { port, subset: parts.next()?, host: parts.next()?, is_passed })
    }
}

impl fmt::Display for ClusterName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ClusterName { port, subset, host, is_passed } = self;
        match is_passed {
            false => write!(f, "outbound|{port}|{subset}|{host}"),
            true => write!(f, "outbound_.{port}_.{subset}_.{host}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ClusterName;

    #[test]
    fn names_are_read_as_they_are_written() {
        for (name, port, subset, is_passed) in [
            ("outbound|80||a.test", 80, "", false),
            ("outbound|80|v1|a.test", 80, "v1", false),
            ("outbound_.443_._.a.test", 443, "", true),
            ("outbound_.443_.v_1_.a.test", 443, "v_1", true),
        ] {
            let read = ClusterName::read(name).unwrap();
            assert_eq!(read, ClusterName { port, subset, host: "a.test", is_passed });
            assert_eq!(read.to_string(), name);
        }
        for other in ["a", "outbound|80|v1", "outbound|x||a", "inbound|80||", "outbound_.80", ""] {
            assert_eq!(ClusterName::read(other), None, "{other}");
        }
    }
}
