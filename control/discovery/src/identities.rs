//! What does each proxy show to the others of the mesh? A certificate for its namespace and its service account, issued
//! when it is first asked for, and again when half of its life is over, as Istio's agent has it.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use naru_base::WallTime;
use naru_plan::MeshIdentity;
use naru_spec::{DataSource, Invalid};
use naru_tls::mesh::MeshIssuer;

use crate::clock::wall_now;
use crate::hub::lock;

/// Whose proxy it is.
type Who = (String, String);

/// Certificates of one authority.
#[derive(Debug)]
pub struct Identities {
    issuer: MeshIssuer,
    trust_domain: String,
    life: Duration,
    issued: Mutex<BTreeMap<Who, Issued>>,
}

#[derive(Debug)]
struct Issued {
    identity: MeshIdentity,
    /// When there is to be another one.
    due: WallTime,
}

impl Identities {
    /// Those that hold for so long.
    pub fn new(issuer: MeshIssuer, trust_domain: String, life: Duration) -> Identities {
        Identities { issuer, trust_domain, life, issued: Mutex::default() }
    }

    /// For an account of a namespace; the same until it is due.
    ///
    /// # Errors
    /// The name cannot stand in a certificate.
    pub fn of(&self, namespace: &str, account: &str) -> Result<MeshIdentity, Invalid> {
        self.of_at(namespace, account, wall_now())
    }

    fn of_at(&self, namespace: &str, account: &str, now: WallTime) -> Result<MeshIdentity, Invalid> {
        let mut issued = lock(&self.issued);
        let who = (namespace.to_owned(), account.to_owned());
        if let Some(known) = issued.get(&who).filter(|known| now < known.due) {
            return Ok(known.identity.clone());
        }
        let id = format!("spiffe://{}/ns/{namespace}/sa/{account}", self.trust_domain);
        let certificate = self.issuer.issue(&id, now.0 / 1_000_000_000, self.life)?;
        let authorities = DataSource::Inline(self.issuer.roots().to_vec());
        let identity = MeshIdentity { certificate, authorities };
        let left = Duration::from_secs(self.issuer.until().saturating_sub(now.0 / 1_000_000_000));
        let due = now + self.life.min(left) / 2;
        issued.insert(who, Issued { identity: identity.clone(), due });
        Ok(identity)
    }

    /// How long nothing is to be done for this one.
    pub fn due_of(&self, namespace: &str, account: &str) -> Duration {
        let who = (namespace.to_owned(), account.to_owned());
        let due = lock(&self.issued).get(&who).map_or(WallTime(0), |known| known.due);
        Duration::from_nanos(due.0.saturating_sub(wall_now().0))
    }

    /// How long nothing is to be done for anybody; `None` where nobody has been issued anything.
    pub(crate) fn due_in(&self) -> Option<Duration> {
        let first = lock(&self.issued).values().map(|known| known.due).min()?;
        Some(Duration::from_nanos(first.0.saturating_sub(wall_now().0)))
    }

    /// Whoever asks again is issued another one; nobody may.
    pub(crate) fn forget_due(&self) {
        self.forget_due_at(wall_now());
    }

    fn forget_due_at(&self, now: WallTime) {
        lock(&self.issued).retain(|_, known| now < known.due);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use naru_base::WallTime;
    use naru_spec::{DownstreamTls, UpstreamTls};
    use naru_tls::mesh::{MeshIssuer, authority};
    use naru_tls::{Connector, Terminator};

    use super::Identities;

    const NOW: WallTime = WallTime(1_800_000_000_000_000_000);

    fn identities() -> Identities {
        let made = authority("cluster.local", NOW.0 / 1_000_000_000).unwrap();
        let issuer = MeshIssuer::read(&made.certificate, &made.key, b"", &made.certificate).unwrap();
        Identities::new(issuer, "cluster.local".to_owned(), Duration::from_secs(100))
    }

    #[test]
    fn each_has_one_until_half_of_its_life_is_over() {
        let identities = identities();
        let at = |account: &str, seconds: u64| {
            identities.of_at("shop", account, NOW + Duration::from_secs(seconds)).unwrap()
        };
        let first = at("a", 0);
        assert_eq!(at("a", 49), first);
        assert_ne!(at("b", 49), first);
        let second = at("a", 50);
        assert_ne!(second, first);
        assert_eq!(second.authorities, first.authorities);
        assert_eq!(at("a", 99), second);
        identities.forget_due_at(NOW + Duration::from_secs(99));
        assert_eq!(at("a", 99), second, "that of b is forgotten");
        assert_eq!(super::lock(&identities.issued).len(), 1);
    }

    #[test]
    fn what_is_issued_can_be_shown_and_what_is_no_name_is_refused() {
        let identity = identities().of_at("shop", "a", NOW).unwrap();
        Terminator::build(&DownstreamTls {
            trusted_ca: Some(identity.authorities.clone()),
            require_client_certificate: true,
            ..DownstreamTls::new(vec![identity.certificate.clone()])
        })
        .unwrap();
        Connector::build(&UpstreamTls {
            certificate: Some(identity.certificate),
            trusted_ca: Some(identity.authorities),
            ..UpstreamTls::default()
        })
        .unwrap();
        assert!(identities().of_at("caf\u{e9}", "a", NOW).is_err());
    }
}
