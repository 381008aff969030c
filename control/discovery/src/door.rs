//! Who may connect, and is he whom he says he is?
//!
//! Without keys there is no TLS, and everybody who connects is believed. With them a connection begins with its
//! handshake, within a time; other keys hold for those who connect after them. Where nodes are checked, a node is what
//! its certificate says: its id is one of the DNS names or URIs there, and where one of them is a SPIFFE id of a
//! namespace (`spiffe://DOMAIN/ns/NAMESPACE/...`, as Istio issues them), it is of that namespace.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use naru_tls::{Hello, ServerStream, Terminator};
use tokio::net::TcpStream;

/// A handshake.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);

/// What a door is made of.
#[derive(Debug)]
pub struct Keys {
    pub terminator: Terminator,
    /// Nodes have to be whom their certificates say.
    pub checks_nodes: bool,
}

#[derive(Debug)]
pub(crate) struct Door {
    terminator: Mutex<Terminator>,
    checks_nodes: bool,
}

impl Door {
    pub fn new(keys: Keys) -> Door {
        Door { terminator: Mutex::new(keys.terminator), checks_nodes: keys.checks_nodes }
    }

    pub fn renew(&self, terminator: Terminator) {
        *self.terminator.lock().unwrap_or_else(PoisonError::into_inner) = terminator;
    }

    /// Lets somebody in. `Err` says why not.
    pub async fn open(&self, socket: TcpStream) -> Result<(ServerStream<TcpStream>, Shown), String> {
        let terminator = self.terminator.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let shaken = tokio::time::timeout(HANDSHAKE_TIME_MAX, async {
            Hello::read(socket).await?.finish_shown(&terminator).await
        });
        let shaken = shaken.await.map_err(|_| "TLS: the handshake takes too long".to_owned())?;
        let (stream, _, shown) = shaken.map_err(|error| format!("TLS: {error}"))?;
        let names = shown.map(|shown| [shown.uris(), shown.dns_names()].concat());
        Ok((stream, Shown { names: names.unwrap_or_default(), is_checked: self.checks_nodes }))
    }
}

/// What somebody has shown of himself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shown {
    /// URIs and DNS names of his certificate.
    pub names: Vec<String>,
    is_checked: bool,
}

impl Shown {
    /// Which account of a namespace he is, where his certificate says it and nobody else does.
    pub fn account(&self, namespace: &str) -> Option<&str> {
        self.accounts().filter(|_| self.is_checked).find(|known| known.0 == namespace).map(|known| known.1)
    }

    /// Whether nobody shows who he is to others of the mesh, though that is asked for.
    pub fn hides_account(&self, namespace: &str) -> bool {
        self.is_checked && self.account(namespace).is_none()
    }

    fn accounts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.names.iter().filter_map(|name| account_of(name))
    }

    /// Whether he is this node. `Err` says to him what is wrong.
    pub fn check(&self, id: &str, namespace: &str, account: &str) -> Result<(), String> {
        if !self.is_checked {
            return Ok(());
        }
        let names = self.names.join("', '");
        if !self.names.iter().any(|name| name == id) {
            return Err(format!("node.id '{id}' is not in its certificate, which has '{names}'"));
        }
        let mut of_certificate = self.names.iter().filter_map(|name| namespace_of(name)).peekable();
        if of_certificate.peek().is_some() && !of_certificate.any(|known| known == namespace) {
            return Err(format!(
                "node.metadata.namespace '{namespace}' is not in its certificate, which has '{names}'"
            ));
        }
        let mut of_certificate = self.accounts().peekable();
        if of_certificate.peek().is_some() && !of_certificate.any(|known| known == (namespace, account)) {
            return Err(format!(
                "node.metadata.service_account '{account}' is not in its certificate, which has '{names}'"
            ));
        }
        Ok(())
    }
}

/// What stands after the domain of a SPIFFE id that has a namespace.
fn path_of(name: &str) -> Option<&str> {
    let (_, path) = name.strip_prefix("spiffe://")?.split_once('/')?;
    path.strip_prefix("ns/")
}

fn namespace_of(name: &str) -> Option<&str> {
    path_of(name)?.split('/').next()
}

/// With its namespace.
fn account_of(name: &str) -> Option<(&str, &str)> {
    path_of(name)?.split_once("/sa/").filter(|(_, account)| !account.contains('/'))
}

#[cfg(test)]
mod tests {
    use super::Shown;

    #[test]
    fn a_node_is_what_its_certificate_says() {
        let check_as = |names: &[&str], id: &str, namespace: &str, account: &str, expected: &str| {
            let names = names.iter().map(|name| (*name).to_owned()).collect();
            let found = Shown { names, is_checked: true }.check(id, namespace, account);
            assert_eq!(found.err().unwrap_or_default(), expected);
        };
        let check = |names: &[&str], id: &str, namespace: &str, expected: &str| {
            check_as(names, id, namespace, "edge", expected);
        };
        check(&["edge-1"], "edge-1", "shop", "");
        check(&["a", "edge-1"], "edge-1", "shop", "");
        let spiffe = "spiffe://cluster.local/ns/shop/sa/edge";
        check(&[spiffe, "edge-1"], "edge-1", "shop", "");
        check(&[spiffe], spiffe, "shop", "");
        check(
            &["edge-1"],
            "edge-2",
            "shop",
            "node.id 'edge-2' is not in its certificate, which has 'edge-1'",
        );
        check(&[], "edge-2", "shop", "node.id 'edge-2' is not in its certificate, which has ''");
        let other = format!("node.metadata.namespace 'bank' is not in its certificate, which has '{spiffe}'");
        check(&[spiffe], spiffe, "bank", &other);
        let other =
            format!("node.metadata.service_account 'bank' is not in its certificate, which has '{spiffe}'");
        check_as(&[spiffe], spiffe, "shop", "bank", &other);
        let shown = |is_checked| Shown { names: vec!["edge-1".to_owned(), spiffe.to_owned()], is_checked };
        assert_eq!(shown(true).account("shop"), Some("edge"));
        assert!(!shown(true).hides_account("shop") && shown(true).hides_account("bank"));
        let unnamed = |is_checked| Shown { names: vec!["edge-1".to_owned()], is_checked };
        assert!(unnamed(true).hides_account("shop") && !unnamed(false).hides_account("shop"));
        assert_eq!((shown(true).account("bank"), shown(false).account("shop")), (None, None));
        // A SPIFFE id without a namespace says nothing of it.
        check(&["spiffe://a/edge"], "spiffe://a/edge", "bank", "");
        // Nobody is asked where nobody is checked.
        assert_eq!(Shown::default().check("anybody", "any", "one"), Ok(()));
    }
}
