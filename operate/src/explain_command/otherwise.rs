//! Would a request come in as its URL has it? Whoever asks may have another port in mind, or TLS.

use naru_spec::{Config, FilterChain, Listener};

use super::{Asked, is_gateway};

impl Asked<'_> {
    /// What is to be known first of an answer by a gateway that it would not come to.
    pub(super) fn otherwise(
        &self,
        config: &Config,
        listener: &Listener,
        chain: &FilterChain,
    ) -> Option<String> {
        if !is_gateway(listener) {
            return None;
        }
        let port = listener.address.port();
        let is_there = |known: &Listener| is_gateway(known) && known.address.port() == self.port;
        let why = match self.port == port {
            true => None,
            false if !self.is_port_said => Some("the URL names no port".to_owned()),
            false if config.listeners.iter().any(is_there) => {
                Some(format!("port {} takes nothing like it", self.port))
            }
            false => Some(format!("nobody listens on port {}", self.port)),
        };
        // Bytes that are passed through may be TLS, and are not looked at.
        let of_tls = match (self.is_tls, chain.tls.is_some()) {
            _ if chain.tcp.is_some() => None,
            (true, false) => Some(format!("port {port} speaks no TLS")),
            (false, true) => Some(format!("port {port} speaks only TLS")),
            (true, true) | (false, false) => None,
        };
        let mut instead = Vec::new();
        if why.is_some() {
            instead.push(format!("at {port}"));
        }
        if of_tls.is_some() {
            instead.push(if self.is_tls { "by http".to_owned() } else { "by https".to_owned() });
        }
        let why: Vec<String> = why.into_iter().chain(of_tls).collect();
        (!why.is_empty()).then(|| format!("{}; {} it would:", why.join(", and "), instead.join(" ")))
    }
}
