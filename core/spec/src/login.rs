//! Logins at a provider of OpenID Connect: where it is, who naru is to it, and what is taken over of what it says.
//!
//! Plain data, a part of [`SessionAuth`](crate::SessionAuth). What the flow looks like is `session`'s question.

use std::time::Duration;

use crate::session::{SessionFault, is_below, is_path, is_reserved};
use crate::{DataSource, Invalid, defaults};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OidcLogin {
    /// As its tokens say it: `https://id.example`.
    pub issuer: String,
    pub client_id: String,
    /// None of a public client.
    pub secret: Option<DataSource>,
    pub client_authentication: ClientAuthentication,
    /// `openid` is one of them.
    pub scopes: Vec<String>,
    /// Where the provider sends browsers back to.
    pub callback_path: String,
    /// Who comes here is led to the provider; nowhere where it is empty.
    pub start_path: String,
    /// What browsers know this gateway by (`https://shop.example`); what they say where it is `None`.
    pub origin: Option<String>,
    /// Who it is: a claim of the ID token.
    pub subject: String,
    pub claims: Vec<OidcClaim>,
    /// Where nothing is looked up.
    pub endpoints: Option<OidcEndpoints>,
    /// What else the provider is told when somebody is led there (`prompt`, `acr_values`).
    pub parameters: Vec<(String, String)>,
    /// Of each question to the provider.
    pub timeout: Duration,
    /// Who logs out with a form is led to the provider, to log out there.
    pub logs_out_there: bool,
    /// Where who has logged out with a form is led.
    pub after_logout: String,
    /// Where the provider may be asked. It is asked nowhere else, whatever it says.
    pub sites: Vec<OidcSite>,
}

/// RFC 6749, section 2.3.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuthentication {
    /// `Basic`, unless the provider says that it only takes the other.
    Either,
    Basic,
    Post,
}

/// A claim of the ID token, and what it is called in ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OidcClaim {
    pub claim: String,
    pub name: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OidcEndpoints {
    pub authorization: String,
    pub token: String,
    pub jwks: String,
    pub end_session: Option<String>,
}

/// A place in the network, and the cluster that leads there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OidcSite {
    pub is_tls: bool,
    pub host: String,
    pub port: u16,
    pub cluster: String,
}

impl OidcLogin {
    pub fn new(issuer: impl Into<String>, client_id: impl Into<String>) -> OidcLogin {
        OidcLogin {
            issuer: issuer.into(),
            client_id: client_id.into(),
            secret: None,
            client_authentication: ClientAuthentication::Either,
            scopes: vec![defaults::OIDC_SCOPE.to_owned()],
            callback_path: defaults::OIDC_CALLBACK_PATH.to_owned(),
            start_path: String::new(),
            origin: None,
            subject: "sub".to_owned(),
            claims: Vec::new(),
            endpoints: None,
            parameters: Vec::new(),
            timeout: defaults::OIDC_TIMEOUT,
            logs_out_there: false,
            after_logout: "/".to_owned(),
            sites: Vec::new(),
        }
    }

    /// Where it says what it is (OpenID Connect Discovery 1.0, section 4).
    pub fn discovery(&self) -> String {
        format!("{}/.well-known/openid-configuration", self.issuer.trim_end_matches('/'))
    }

    /// The cluster for an address, where it may be asked.
    pub fn cluster_for(&self, address: &str) -> Option<&str> {
        let (is_tls, host, port) = parts_of(address)?;
        let is_it = |site: &&OidcSite| site.is_tls == is_tls && site.host == host && site.port == port;
        self.sites.iter().find(is_it).map(|site| site.cluster.as_str())
    }

    /// Fields are told below `login.oidc`.
    pub fn problems(&self, found: &mut Vec<SessionFault>) {
        let mut complain = |field, invalid: Invalid| found.push((field, invalid));
        if let Err(why) = is_trusted(&self.issuer)
            && !self.issuer.contains(['?', '#'])
        {
            complain("login.oidc.issuer", Invalid::new(why).hint("as https://id.example"));
        }
        if self.issuer.contains(['?', '#']) {
            let message = "an issuer has neither a query nor a fragment";
            complain("login.oidc.issuer", Invalid::new(message));
        }
        if self.client_id.is_empty() || !self.client_id.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            complain("login.oidc.clientId", Invalid::new("it is no id of a client"));
        }
        if self.secret.is_none() && self.client_authentication != ClientAuthentication::Either {
            let message = "there is no secret to say";
            complain(
                "login.oidc.clientAuthentication",
                Invalid::new(message).hint("clientSecret: {file: ..}"),
            );
        }
        if !self.scopes.iter().any(|scope| scope == "openid") {
            let message = "without the scope 'openid' the provider does not say who it is";
            complain("login.oidc.scopes", Invalid::new(message));
        }
        let is_scope = |scope: &String| {
            !scope.is_empty() && scope.bytes().all(|b| (b'!'..=b'~').contains(&b) && b != b'"' && b != b'\\')
        };
        if let Some(scope) = self.scopes.iter().find(|scope| !is_scope(scope)) {
            complain("login.oidc.scopes", Invalid::new(format!("'{scope}' is no scope")));
        }
        if !is_path(&self.callback_path) {
            let message = format!("'{}' is no path", self.callback_path);
            complain("login.oidc.callbackPath", Invalid::new(message).hint("/ and what follows it"));
        }
        if !self.start_path.is_empty() && !is_path(&self.start_path) {
            let message = format!("'{}' is no path", self.start_path);
            complain("login.oidc.startPath", Invalid::new(message).hint("/ and what follows it"));
        }
        if !is_path(&self.after_logout) || self.after_logout.starts_with("//") {
            let message = format!("'{}' is no path", self.after_logout);
            complain("login.oidc.afterLogout", Invalid::new(message).hint("/ and what follows it"));
        }
        if let Some(origin) = &self.origin
            && (is_trusted(origin).is_err()
                || origin.split_once("://").is_some_and(|(_, rest)| rest.contains('/')))
        {
            let message = format!("'{origin}' is no origin");
            complain(
                "login.oidc.origin",
                Invalid::new(message).hint("as https://shop.example, without a path"),
            );
        }
        for claim in &self.claims {
            if is_reserved(&claim.name) {
                let message = format!("the claim '{}' is naru's own", claim.name);
                complain("login.oidc.claims", Invalid::new(message).hint("give it another name: as: .."));
            }
            let is_twice = self.claims.iter().filter(|other| other.name == claim.name).count() > 1;
            if is_twice {
                let message = format!("two claims are to be called '{}'", claim.name);
                complain("login.oidc.claims", Invalid::new(message));
            }
        }
        if let Some(said) = &self.endpoints {
            let all = [&said.authorization, &said.token, &said.jwks].into_iter().chain(&said.end_session);
            for endpoint in all {
                if let Err(why) = is_trusted(endpoint) {
                    complain("login.oidc.endpoints", Invalid::new(why));
                }
            }
            if said.end_session.is_none() && self.logs_out_there {
                let message = "nobody says where one logs out at the provider";
                complain("login.oidc.endpoints", Invalid::new(message).hint("endSession: https://.."));
            }
        }
        for (name, _) in &self.parameters {
            if name.is_empty() || OWN_PARAMETERS.contains(&name.as_str()) {
                complain("login.oidc.parameters", Invalid::new(format!("'{name}' is naru's own to say")));
            }
        }
        if self.timeout < Duration::from_millis(10) || self.timeout > Duration::from_secs(60) {
            let message = format!("{:?} is not between 10 ms and 60 s", self.timeout);
            complain("login.oidc.timeout", Invalid::new(message));
        }
        if is_below(&self.callback_path, &self.start_path) && !self.start_path.is_empty() {
            let message = format!("'{}' is asked for two things", self.start_path);
            complain("login.oidc.startPath", Invalid::new(message));
        }
    }
}

const OWN_PARAMETERS: [&str; 11] = [
    "response_type",
    "response_mode",
    "client_id",
    "client_secret",
    "redirect_uri",
    "scope",
    "state",
    "nonce",
    "code_challenge",
    "code_challenge_method",
    "request",
];

/// Whether TLS, the host and the port of an address; `None` where it is none.
pub fn parts_of(address: &str) -> Option<(bool, String, u16)> {
    let uri: http::Uri = address.parse().ok()?;
    let is_tls = match uri.scheme_str()? {
        "https" => true,
        "http" => false,
        _ => return None,
    };
    if uri.authority()?.as_str().contains('@') {
        return None;
    }
    let host = uri.host()?.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
    let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    (!host.is_empty()).then_some((is_tls, host, port))
}

/// Codes, secrets and keys go over TLS, but on this machine.
///
/// # Errors
/// Why it is nothing to ask.
pub fn is_trusted(address: &str) -> Result<(), String> {
    let (is_tls, host, _) = parts_of(address).ok_or_else(|| format!("'{address}' is no address"))?;
    let is_here = host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
    if is_tls || is_here {
        Ok(())
    } else {
        Err(format!("'{address}' is not https: others could read what is said"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn valid() -> OidcLogin {
        OidcLogin::new("https://id.example/realms/a", "shop")
    }

    fn fields(change: &dyn Fn(&mut OidcLogin)) -> Vec<&'static str> {
        let mut login = valid();
        change(&mut login);
        let mut found = Vec::new();
        login.problems(&mut found);
        found.into_iter().map(|(field, _)| field.trim_start_matches("login.oidc.")).collect()
    }

    #[test]
    fn what_cannot_be_is_told() {
        assert_eq!(fields(&|_| ()), [""; 0]);
        for issuer in
            ["", "id.example", "http://id.example", "https://id.example?a=b", "ftp://x", "https://a@b"]
        {
            assert_eq!(fields(&|login| login.issuer = issuer.into()), ["issuer"], "{issuer}");
        }
        for issuer in
            ["http://localhost:3000", "http://127.0.0.1", "http://[::1]:8/x", "https://id.example:8443/"]
        {
            assert_eq!(fields(&|login| login.issuer = issuer.into()), [""; 0], "{issuer}");
        }
        assert_eq!(fields(&|login| login.client_id.clear()), ["clientId"]);
        assert_eq!(
            fields(&|login| login.client_authentication = ClientAuthentication::Post),
            ["clientAuthentication"]
        );
        assert_eq!(fields(&|login| login.scopes = vec!["email".into()]), ["scopes"]);
        assert_eq!(fields(&|login| login.scopes.push("a b".into())), ["scopes"]);
        assert_eq!(fields(&|login| login.callback_path = "back".into()), ["callbackPath"]);
        assert_eq!(fields(&|login| login.start_path = login.callback_path.clone()), ["startPath"]);
        for path in ["//evil.example", "https://evil.example", ""] {
            assert_eq!(fields(&|login| login.after_logout = path.into()), ["afterLogout"], "{path}");
        }
        assert_eq!(fields(&|login| login.origin = Some("https://shop.example/a".into())), ["origin"]);
        assert_eq!(fields(&|login| login.origin = Some("http://shop.example".into())), ["origin"]);
        let claim = OidcClaim { claim: "x".into(), name: "sub".into() };
        assert_eq!(fields(&|login| login.claims.push(claim.clone())), ["claims"]);
        assert_eq!(fields(&|login| login.parameters.push(("state".into(), "x".into()))), ["parameters"]);
        assert_eq!(fields(&|login| login.timeout = Duration::ZERO), ["timeout"]);
    }

    #[test]
    fn it_is_looked_up_below_its_issuer_and_asked_at_its_sites_only() {
        let mut login = valid();
        assert_eq!(login.discovery(), "https://id.example/realms/a/.well-known/openid-configuration");
        let site = OidcSite { is_tls: true, host: "id.example".into(), port: 443, cluster: "there".into() };
        login.sites = vec![site];
        assert_eq!(login.cluster_for("https://ID.example/token"), Some("there"));
        for other in ["http://id.example/", "https://id.example:8443/", "https://other.example/", "x"] {
            assert_eq!(login.cluster_for(other), None, "{other}");
        }
    }
}
