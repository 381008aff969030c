//! Is a token ours, and what does it say? What was verified once is known for a while.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use naru_base::WallTime;
use naru_identity::Token;
use naru_jose::{Jwt, secret};
use naru_session::token::judge;
use naru_session::{Claims, Id, Standing, Verdict};
use naru_spec::{SESSION_BEGAN, SessionAuth};

use super::keys::Keyset;
use super::service::Known;

/// So many are known, twice: those of now, and those of before.
const KNOWN_MAX: usize = 4_096;
/// Longer ones are none of ours, and are not looked at.
const BYTES_MAX: usize = 8 * 1024;

/// A token whose signature holds.
#[derive(Debug)]
pub struct Verified {
    key: Id,
    pub claims: Claims,
    pub token: Arc<Token>,
}

/// Tokens that were verified lately, by their digests. Signatures do not age: what a token is worth now is judged each
/// time.
#[derive(Debug, Default)]
pub struct Cache {
    young: RefCell<HashMap<[u8; 32], Rc<Verified>>>,
    old: RefCell<HashMap<[u8; 32], Rc<Verified>>>,
}

impl Cache {
    fn get(&self, digest: &[u8; 32]) -> Option<Rc<Verified>> {
        if let Some(found) = self.young.borrow().get(digest) {
            return Some(Rc::clone(found));
        }
        let found = self.old.borrow_mut().remove(digest)?;
        self.put(*digest, Rc::clone(&found));
        Some(found)
    }

    fn put(&self, digest: [u8; 32], verified: Rc<Verified>) {
        let mut young = self.young.borrow_mut();
        if young.len() >= KNOWN_MAX {
            *self.old.borrow_mut() = std::mem::take(&mut *young);
        }
        young.insert(digest, verified);
    }
}

/// What a token is worth, and what it says where its signature holds.
pub fn verdict(
    cache: &Cache,
    known: &Known,
    keys: &Keyset,
    auth: &SessionAuth,
    now: WallTime,
    token: &str,
) -> (Verdict, Option<Rc<Verified>>) {
    if token.len() > BYTES_MAX {
        return (Verdict::Invalid, None);
    }
    let digest = secret::sha256(token.as_bytes());
    let (key, verified) = match cache.get(&digest) {
        Some(verified) => (Some(verified.key), Some(verified)),
        None => {
            let (key, verified) = verify(known, keys, auth, token);
            if let Some(verified) = &verified {
                cache.put(digest, Rc::clone(verified));
            }
            (key, verified)
        }
    };
    let Some(key) = key else { return (Verdict::Invalid, None) };
    let standing = keys.ring.standing(key, now, auth.keys.grace);
    // Whose key is forgotten is not believed any more, either.
    let verified = verified.filter(|_| standing != Standing::Unknown);
    let claims = verified.as_ref().map(|verified| &verified.claims);
    (judge(now, standing, claims, known.revoked(), auth.access.skew), verified)
}

/// The key that it names, and what it says if that key has signed it for us.
fn verify(
    known: &Known,
    keys: &Keyset,
    auth: &SessionAuth,
    token: &str,
) -> (Option<Id>, Option<Rc<Verified>>) {
    let Ok(jwt) = Jwt::parse(token) else { return (None, None) };
    let kid = jwt.compact.header.kid.as_deref().and_then(|kid| kid.parse::<Id>().ok());
    let Some(key) = kid else { return (None, None) };
    let Some(signer) = keys.get(key) else { return (Some(key), None) };
    if signer.public().verify(&jwt.compact).is_err() {
        return (Some(key), None);
    }
    (
        Some(key),
        claims(known, &jwt, auth).map(|claims| {
            let payload = jwt.compact.payload_text().into();
            Rc::new(Verified { key, claims, token: Arc::new(Token { claims: jwt.claims, payload }) })
        }),
    )
}

fn claims(known: &Known, jwt: &Jwt<'_>, auth: &SessionAuth) -> Option<Claims> {
    if jwt.text("iss") != Some(auth.issuer.as_str()) {
        return None;
    }
    let is_for_us = |audience: &str| auth.audiences.iter().any(|own| own == audience);
    if !auth.audiences.is_empty() && !jwt.audiences().any(is_for_us) {
        return None;
    }
    let id = |claim: &str| jwt.text(claim).and_then(|text| text.parse::<Id>().ok());
    let time = |claim: &str| {
        let seconds = u64::try_from(jwt.time(claim)?).ok()?;
        Some(WallTime(seconds.saturating_mul(1_000_000_000)))
    };
    Some(Claims {
        jti: id("jti")?,
        sid: id("sid")?,
        subject: known.subjects.as_ref()?.subject(jwt.text("sub")?),
        // Tokens of before, when none said it, were issued when their sessions began or later.
        began: time(SESSION_BEGAN).or_else(|| time("iat"))?,
        not_before: time("nbf")?,
        expires: time("exp")?,
    })
}
