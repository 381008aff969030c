//! What a server with `listen .. ssl` shows and asks for.

use super::scope::Scope;
use crate::notes::{Notes, code};
use crate::yaml::Map;

/// None where there is no certificate: nothing could be served.
pub(super) fn of(scope: &Scope<'_>, notes: &mut Notes<'_>) -> Option<Map> {
    let file = |name: &str| scope.setting(name).and_then(|directive| directive.arg(0));
    let (Some(certificate), Some(key)) = (file("ssl_certificate"), file("ssl_certificate_key")) else {
        let message = "a server with ssl names no certificate: its port is left out".to_owned();
        let hint = "say ssl_certificate and ssl_certificate_key";
        notes.warning(code::NOT_CARRIED_OVER, scope.at, &scope.path, message, hint);
        return None;
    };
    if let Some(directive) = scope.setting("ssl_certificate") {
        let message =
            format!("the certificate '{certificate}' and its key are read from where nginx has them");
        let hint = "put them where naru can read them, or name a Secret: tls.credentialName";
        notes.note(code::TO_DO, directive.at, &scope.path_to("ssl_certificate"), message, hint);
    }
    let verify = file("ssl_verify_client").unwrap_or("off");
    let mode = match verify {
        "on" => "MUTUAL",
        "optional" => "OPTIONAL_MUTUAL",
        _ => "SIMPLE",
    };
    if let Some(directive) = scope.setting("ssl_verify_client")
        && !["on", "optional", "off"].contains(&verify)
    {
        let message = format!("ssl_verify_client {verify} is not carried over: clients show no certificate");
        let path = scope.path_to("ssl_verify_client");
        notes.warning(code::NOT_CARRIED_OVER, directive.at, &path, message, "");
    }
    let authority = file("ssl_client_certificate").filter(|_| mode != "SIMPLE");
    Some(
        Map::new()
            .with("mode", mode)
            .with("serverCertificate", certificate)
            .with("privateKey", key)
            .with_some("caCertificates", authority)
            .with_some("minProtocolVersion", lowest(scope, notes)),
    )
}

fn lowest(scope: &Scope<'_>, notes: &mut Notes<'_>) -> Option<&'static str> {
    let directive = scope.setting("ssl_protocols")?;
    if directive.texts().any(|version| ["SSLv2", "SSLv3", "TLSv1", "TLSv1.1"].contains(&version)) {
        let message = "naru speaks TLS 1.2 and 1.3 only".to_owned();
        notes.note(code::DIFFERS, directive.at, &scope.path_to("ssl_protocols"), message, "");
    }
    // 1.2 is the lowest where nothing is said.
    let is_newest_only = directive.texts().all(|version| version == "TLSv1.3");
    is_newest_only.then_some("TLSV1_3")
}
