//! A provider of OpenID Connect: what a `SessionAuth` says of it, and the clusters that lead there.

use naru_resource::session_auth::{self as said, OidcClientAuthentication, SessionOidc};
use naru_resource::{Place, Text};
use naru_spec::login::parts_of;
use naru_spec::{
    ClientAuthentication, Cluster, DataSource, OidcClaim, OidcEndpoints, OidcLogin, OidcSite, Path,
    SessionAuth, code,
};

use super::{is_on, secret, set, texts, time};
use crate::findings::Findings;
use crate::identity::Site;
use crate::tls::SYSTEM_AUTHORITIES;

/// `owner` is whose it is: two that are at the same place may believe different authorities.
pub(super) fn read(
    said: &SessionOidc,
    owner: &str,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> OidcLogin {
    let mut oidc = OidcLogin::new(&said.issuer.value, &said.client_id.value);
    oidc.secret =
        said.client_secret.as_ref().and_then(|said| secret(said, &path.field("clientSecret"), findings));
    oidc.client_authentication = match said.client_authentication.map(|said| said.value) {
        None => ClientAuthentication::Either,
        Some(OidcClientAuthentication::Basic) => ClientAuthentication::Basic,
        Some(OidcClientAuthentication::Post) => ClientAuthentication::Post,
    };
    if !said.scopes.is_empty() {
        oidc.scopes = texts(&said.scopes);
    }
    set(&mut oidc.callback_path, &said.callback_path);
    set(&mut oidc.start_path, &said.start_path);
    oidc.origin = said.origin.as_ref().map(|origin| origin.value.trim_end_matches('/').to_owned());
    set(&mut oidc.subject, &said.subject_claim);
    let claims = said.claims.iter().map(|said| OidcClaim {
        claim: said.claim.value.clone(),
        name: said.name.as_ref().unwrap_or(&said.claim).value.clone(),
    });
    oidc.claims = claims.collect();
    oidc.endpoints = said.endpoints.as_ref().map(|said| OidcEndpoints {
        authorization: said.authorization.value.clone(),
        token: said.token.value.clone(),
        jwks: said.jwks.value.clone(),
        end_session: said.end_session.as_ref().map(|said| said.value.clone()),
    });
    oidc.parameters =
        said.parameters.iter().map(|(name, value)| (name.value.clone(), value.value.clone())).collect();
    time(&mut oidc.timeout, &said.timeout);
    oidc.logs_out_there = is_on(&said.logout_at_provider, false);
    set(&mut oidc.after_logout, &said.after_logout);
    let mut add = |address: &str| {
        let Some((is_tls, host, port)) = parts_of(address) else { return false };
        let scheme = if is_tls { "https" } else { "http" };
        let site = OidcSite { is_tls, port, cluster: format!("oidc|{owner}|{scheme}|{host}|{port}"), host };
        if !oidc.sites.contains(&site) {
            oidc.sites.push(site);
        }
        true
    };
    // What is wrong with them is told with all else that is wrong with it.
    match &said.endpoints {
        None => add(&said.issuer.value),
        Some(endpoints) => {
            [&endpoints.token, &endpoints.jwks].into_iter().all(|endpoint| add(&endpoint.value))
        }
    };
    for (at, host) in said.hosts.iter().enumerate() {
        let address =
            if host.value.contains("://") { host.value.clone() } else { format!("https://{}", host.value) };
        if naru_spec::login::is_trusted(&address).is_err() || !add(&address) {
            let message = format!("'{}' is no host that is asked over TLS", host.value);
            let path = path.field("hosts");
            findings.error(
                code::INVALID_VALUE,
                host.place,
                &path.at(at),
                message,
                "as keys.example, or keys.example:8443",
            );
        }
    }
    oidc
}

/// Those of one document.
pub(super) fn clusters(written: &said::SessionAuth, auth: &SessionAuth) -> Vec<Cluster> {
    let Some((said, oidc)) = written.spec.login.oidc.as_ref().zip(auth.oidc.as_ref()) else {
        return Vec::new();
    };
    let authorities = said.ca_certificates.as_ref().map_or(SYSTEM_AUTHORITIES, |file| &file.value);
    let of_site = |site: &OidcSite| {
        let OidcSite { is_tls, host, port, cluster } = site.clone();
        Site { host, port, is_tls }.cluster(cluster, DataSource::File(authorities.to_owned()))
    };
    oidc.sites.iter().map(of_site).collect()
}

pub(super) fn place_of(said: &SessionOidc, field: &str) -> Place {
    let of = |text: &Option<Text>| text.as_ref().map(|text| text.place);
    let place = match field.trim_start_matches("login.oidc.") {
        "issuer" => Some(said.issuer.place),
        "clientId" => Some(said.client_id.place),
        "clientAuthentication" => said.client_authentication.as_ref().map(|said| said.place),
        "scopes" => said.scopes.first().map(|scope| scope.place),
        "callbackPath" => of(&said.callback_path),
        "startPath" => of(&said.start_path),
        "origin" => of(&said.origin),
        "claims" => said.claims.first().map(|claim| claim.place),
        "endpoints" => said.endpoints.as_ref().map(|said| said.place),
        "parameters" => said.parameters.first().map(|(name, _)| name.place),
        "timeout" => said.timeout.as_ref().map(|said| said.place),
        "afterLogout" => of(&said.after_logout),
        _ => None,
    };
    place.unwrap_or(said.place)
}
