//! Who stands for the proxies of a mesh? The authority that documents bring (the Secret `cacerts` of `istio-system`, as in
//! Istio), or one that is made once and kept in the directory of the state, where nobody else may read it.
//!
//! Nothing is made where no document asks for calls between proxies (`ISTIO_MUTUAL`).

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use naru_discovery::Identities;
use naru_doc::Loaded;
use naru_plan::{GivenAuthority, MeshAuthority, MeshIdentity, mesh_authority, mesh_authority_place};
use naru_proxy::wall_now;
use naru_resource::Resources;
use naru_spec::{Invalid, Problem, Severity, code};
use naru_tls::mesh::{MeshIssuer, authority};

use crate::private;

/// What the proxies are that are no other's: those of `naru up`.
pub const NAMESPACE: &str = "istio-system";
pub const ACCOUNT: &str = "naru";

/// The authority of the documents that are there.
pub struct Authority {
    /// Nothing is kept without.
    directory: Option<PathBuf>,
    /// Of what it issues.
    life: Duration,
    /// Others read the same documents, and issue by an authority of their own.
    is_shared: bool,
    known: Option<(MeshAuthority, Arc<Identities>)>,
}

impl Authority {
    pub fn new(directory: Option<PathBuf>, life: Duration, is_shared: bool) -> Authority {
        Authority { directory, life, is_shared, known: None }
    }

    /// Who issues certificates, where documents ask for any; the same for as long as they say the same.
    pub fn identities(&mut self, resources: &Resources) -> anyhow::Result<Option<Arc<Identities>>> {
        let Some(wanted) = mesh_authority(resources) else { return Ok(None) };
        if let Some((_, identities)) = self.known.as_ref().filter(|(known, _)| *known == wanted) {
            return Ok(Some(Arc::clone(identities)));
        }
        let issuer = match &wanted.given {
            Some(given) => match read(given) {
                Ok(issuer) => issuer,
                // Which is told as a problem of the documents.
                Err(_) => return Ok(None),
            },
            None => {
                if self.is_shared {
                    naru_say::say!(
                        "warning: whoever else reads these documents has another authority, and proxies of both do not \
                         believe each other: put the Secret of 'naru config authority' among them"
                    );
                }
                self.own(&wanted.trust_domain)?
            }
        };
        let identities = Arc::new(Identities::new(issuer, wanted.trust_domain.clone(), self.life));
        self.known = Some((wanted, Arc::clone(&identities)));
        Ok(Some(identities))
    }

    /// One of our own, as it was kept, or a new one.
    fn own(&self, trust_domain: &str) -> anyhow::Result<MeshIssuer> {
        let Some(directory) = &self.directory else {
            let made = authority(trust_domain, wall_now().0 / 1_000_000_000)?;
            return Ok(MeshIssuer::read(&made.certificate, &made.key, b"", &made.certificate)?);
        };
        let path = directory.join("mesh").join(format!("{}.pem", trust_domain.replace('/', "_")));
        let kept = match std::fs::read(&path) {
            Ok(kept) => kept,
            Err(_) => {
                let made = authority(trust_domain, wall_now().0 / 1_000_000_000)?;
                naru_say::say!(
                    "naru: there is an authority for {trust_domain} now, which is kept in {}",
                    path.display()
                );
                private::write_once(&path, &[made.certificate, made.key].concat())?
            }
        };
        MeshIssuer::read(&kept, &kept, b"", &kept)
            .map_err(|invalid| anyhow::anyhow!("{}: {invalid}", path.display()))
    }
}

fn read(given: &GivenAuthority) -> Result<MeshIssuer, Invalid> {
    MeshIssuer::read(&given.certificate, &given.key, &given.chain, &given.roots)
}

/// What is wrong with an authority that documents bring.
pub fn problems(loaded: &Loaded) -> Option<Problem> {
    let given = mesh_authority(&loaded.resources)?.given?;
    let place = mesh_authority_place(&loaded.resources)?;
    let now = wall_now().0 / 1_000_000_000;
    let invalid = match read(&given) {
        Err(invalid) => invalid,
        Ok(issuer) if issuer.until() <= now => Invalid::new("the authority of the mesh holds no longer"),
        Ok(_) => return None,
    };
    Some(Problem {
        severity: Severity::Error,
        code: code::INVALID_VALUE,
        message: invalid.message,
        hint: "ca-cert.pem and ca-key.pem, and where it is none of its own, cert-chain.pem and root-cert.pem"
            .to_owned(),
        file: loaded.resources.files.name(place.file).to_owned(),
        line: place.line,
        column: place.column,
        path: "data".to_owned(),
    })
}

/// A new authority, as a document.
pub fn secret(trust_domain: &str) -> anyhow::Result<String> {
    let made = authority(trust_domain, wall_now().0 / 1_000_000_000)?;
    let mut text = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{ name: cacerts, namespace: {NAMESPACE} }}\nstringData:\n"
    );
    for (name, pem) in [("ca-cert.pem", &made.certificate), ("ca-key.pem", &made.key)] {
        let _ = writeln!(text, "  {name}: |");
        for line in String::from_utf8_lossy(pem).lines() {
            let _ = writeln!(text, "    {line}");
        }
    }
    Ok(text)
}

/// For looking at documents without running them: a certificate that nobody knows.
pub fn stand_in(resources: &Resources) -> Option<MeshIdentity> {
    let MeshAuthority { trust_domain, .. } = mesh_authority(resources)?;
    let life = Duration::from_secs(60);
    let issuer = Authority::new(None, life, false).own(&trust_domain).ok()?;
    Identities::new(issuer, trust_domain, life).of(NAMESPACE, ACCOUNT).ok()
}
