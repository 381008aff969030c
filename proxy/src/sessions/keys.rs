//! Keys that sign, as they are in memory; and how they stand in a ring.

use std::collections::BTreeMap;
use std::sync::Arc;

use naru_base::WallTime;
use naru_jose::{Algorithm, Jwks, SigningKey, secret};
use naru_session::{Id, Ring};
use naru_spec::{SessionAlgorithm, SessionAuth};

/// All keys of a ring, ready to be used.
#[derive(Debug)]
pub struct Keyset {
    pub ring: Ring,
    keys: BTreeMap<Id, Arc<SigningKey>>,
}

impl Keyset {
    /// Keys that `older` has are taken from it.
    ///
    /// # Errors
    /// A key is none.
    pub fn of(ring: Ring, older: Option<&Keyset>) -> Result<Keyset, String> {
        let mut keys = BTreeMap::new();
        for key in ring.keys() {
            let known = older.and_then(|older| older.keys.get(&key.id)).map(Arc::clone);
            let key_pair = match known {
                Some(known) => known,
                None => Arc::new(read(key.id, &key.material)?),
            };
            keys.insert(key.id, key_pair);
        }
        Ok(Keyset { ring, keys })
    }

    pub fn get(&self, id: Id) -> Option<&SigningKey> {
        self.keys.get(&id).map(|key| &**key)
    }

    /// The one that signs.
    pub fn signer(&self) -> Option<&SigningKey> {
        self.get(self.ring.current().id)
    }

    /// What is published (RFC 7517).
    pub fn published(&self, now: WallTime, auth: &SessionAuth) -> String {
        let keys = self.ring.published(now, auth.keys.grace).filter_map(|key| self.get(key.id));
        Jwks::of(keys.map(|key| key.public().clone()).collect()).public()
    }
}

/// A new key, as it stands in a ring.
///
/// # Errors
/// The system has no chance to give.
pub fn make(algorithm: SessionAlgorithm) -> Result<(Id, Arc<[u8]>), String> {
    let id = draw()?;
    let (first, algorithm) = match algorithm {
        SessionAlgorithm::Es256 => (0, Algorithm::Es256),
        SessionAlgorithm::EdDsa => (1, Algorithm::EdDsa),
    };
    let key = SigningKey::generate(algorithm, &id.to_string()).map_err(|fault| fault.to_string())?;
    let mut material = vec![first];
    material.extend(key.to_bytes().map_err(|fault| fault.to_string())?);
    Ok((id, material.into()))
}

fn read(id: Id, material: &[u8]) -> Result<SigningKey, String> {
    let (algorithm, bytes) = match material.split_first() {
        Some((0, bytes)) => (Algorithm::Es256, bytes),
        Some((1, bytes)) => (Algorithm::EdDsa, bytes),
        _ => return Err("a key of an unknown kind".to_owned()),
    };
    SigningKey::from_bytes(algorithm, &id.to_string(), bytes).map_err(|fault| fault.to_string())
}

/// One that nobody can guess.
pub fn draw() -> Result<Id, String> {
    secret::random().map(u128::from_be_bytes).map(Id).map_err(|failed| failed.to_string())
}
