//! Passwords by their hashes, as htpasswd writes them: bcrypt (`$2y$`), argon2 (`$argon2id$`), SHA-1 (`{SHA}`).
//!
//! What is not taken: MD5 (`$apr1$`), crypt and plain text, which whoever finds the file has at once.

use std::collections::HashMap;
use std::sync::Arc;

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use naru_jose::secret;

use crate::{Fault, pairs};

/// What a hash may cost, and which are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// `{SHA}` and nothing else.
    pub only_sha1: bool,
    /// As a power of two.
    pub bcrypt_max: u32,
    /// KiB.
    pub argon2_memory_max: u32,
    pub argon2_rounds_max: u32,
}

/// The hash of each name's password.
#[derive(Clone, Default)]
pub struct Passwords {
    of_names: HashMap<Box<str>, (Arc<str>, Hash)>,
    /// What is computed for a name that is none, so that it takes as long as for one that is.
    decoy: Option<Hash>,
}

impl std::fmt::Debug for Passwords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Passwords({})", self.of_names.len())
    }
}

#[derive(Clone)]
enum Hash {
    Sha1([u8; 20]),
    Bcrypt { text: Box<str>, cost: u32 },
    Argon2 { algorithm: Algorithm, version: Version, params: Params, salt: Box<[u8]>, hash: Box<[u8]> },
}

impl Passwords {
    /// Reads lines of `name:hash`.
    ///
    /// # Errors
    /// A line that is none, a hash that is not taken, or a name that is there already.
    pub fn read(file: &[u8], effort: Effort) -> Result<Passwords, Fault> {
        let mut passwords = Passwords::default();
        for (line, name, text) in pairs(file)? {
            let hash = Hash::read(text, effort).map_err(|text| Fault::at(line, text))?;
            if passwords.decoy.as_ref().is_none_or(|decoy| decoy.cost() < hash.cost()) {
                passwords.decoy = Some(hash.clone());
            }
            if passwords.of_names.insert(name.into(), (name.into(), hash)).is_some() {
                return Err(Fault::at(line, format!("there is a '{name}' already")));
            }
        }
        Ok(passwords)
    }

    pub fn is_empty(&self) -> bool {
        self.of_names.is_empty()
    }

    /// Whether any of its hashes takes so long that no worker should wait for it.
    pub fn is_slow(&self) -> bool {
        self.decoy.as_ref().is_some_and(|decoy| decoy.cost() > 0)
    }

    /// Who shows this password, if it is the one of that name. It takes as long for a name that is none.
    pub fn verify(&self, name: &str, password: &[u8]) -> Option<Arc<str>> {
        match self.of_names.get(name) {
            Some((client, hash)) => hash.is_of(password).then(|| Arc::clone(client)),
            None => {
                let _ = self.decoy.as_ref().map(|decoy| decoy.is_of(password));
                None
            }
        }
    }
}

impl Hash {
    fn read(text: &str, effort: Effort) -> Result<Hash, String> {
        if let Some(rest) = text.strip_prefix("{SHA}") {
            let bytes = STANDARD.decode(rest).ok().and_then(|bytes| <[u8; 20]>::try_from(bytes).ok());
            return bytes
                .map(Hash::Sha1)
                .ok_or_else(|| "'{SHA}' without a SHA-1 in base64 behind it".to_owned());
        }
        if effort.only_sha1 {
            return Err("only {SHA} is taken here, as in Envoy: htpasswd -s".to_owned());
        }
        let mut parts = text.split('$').skip(1);
        match parts.next() {
            Some("2y" | "2b" | "2a") => {
                let cost = parts.next().and_then(|cost| cost.parse::<u32>().ok());
                let rest = parts.next().unwrap_or_default();
                let is_one = text.len() == 60 && rest.len() == 53 && parts.next().is_none();
                // Two digits: the library counts on it.
                match cost.filter(|cost| is_one && (4..=31).contains(cost)) {
                    Some(cost) if cost > effort.bcrypt_max => {
                        Err(format!("a bcrypt of cost {cost} takes too long: {} at most", effort.bcrypt_max))
                    }
                    Some(cost) => Ok(Hash::Bcrypt { text: text.into(), cost }),
                    None => Err("it begins as a bcrypt hash and is none".to_owned()),
                }
            }
            Some(name @ ("argon2id" | "argon2i" | "argon2d")) => argon2_hash(name, &mut parts, effort)?
                .ok_or_else(|| format!("it begins as a hash of {name} and is none")),
            Some("apr1") => Err("MD5 ($apr1$) is not taken: make one with htpasswd -B".to_owned()),
            _ => Err("its hash is none of bcrypt, argon2 and {SHA}: make one with htpasswd -B".to_owned()),
        }
    }

    /// 0 where a worker need not wait.
    fn cost(&self) -> u64 {
        match self {
            Hash::Sha1(_) => 0,
            Hash::Bcrypt { cost, .. } => 1 << cost.min(&40),
            Hash::Argon2 { params, .. } => u64::from(params.m_cost()) * u64::from(params.t_cost()),
        }
    }

    fn is_of(&self, password: &[u8]) -> bool {
        match self {
            Hash::Sha1(hash) => secret::is_equal(&secret::sha1(password), hash),
            Hash::Bcrypt { text, .. } => bcrypt::verify(password, text).unwrap_or(false),
            Hash::Argon2 { algorithm, version, params, salt, hash } => {
                let mut out = vec![0; hash.len()];
                let argon2 = Argon2::new(*algorithm, *version, params.clone());
                argon2.hash_password_into(password, salt, &mut out).is_ok() && secret::is_equal(&out, hash)
            }
        }
    }
}

/// `v=19$m=65536,t=3,p=4$salt$hash` (the PHC string format). Nothing where it is none.
fn argon2_hash<'a>(
    name: &str,
    parts: &mut impl Iterator<Item = &'a str>,
    effort: Effort,
) -> Result<Option<Hash>, String> {
    let algorithm = match name {
        "argon2id" => Algorithm::Argon2id,
        "argon2i" => Algorithm::Argon2i,
        _ => Algorithm::Argon2d,
    };
    let mut next = parts.next();
    let version = match next.and_then(|part| part.strip_prefix("v=")) {
        Some("19") => {
            next = parts.next();
            Version::V0x13
        }
        Some("16") => {
            next = parts.next();
            Version::V0x10
        }
        Some(_) => return Ok(None),
        None => Version::V0x10,
    };
    let (mut memory, mut rounds, mut lanes) = (None, None, None);
    for setting in next.unwrap_or_default().split(',') {
        let Some((name, value)) = setting.split_once('=') else { return Ok(None) };
        let Ok(value) = value.parse::<u32>() else { return Ok(None) };
        match name {
            "m" => memory = Some(value),
            "t" => rounds = Some(value),
            "p" => lanes = Some(value),
            _ => return Ok(None),
        }
    }
    let (Some(memory), Some(rounds), Some(lanes)) = (memory, rounds, lanes) else { return Ok(None) };
    if memory > effort.argon2_memory_max || rounds > effort.argon2_rounds_max {
        return Err(format!(
            "an argon2 of m={memory},t={rounds} takes too much: m={},t={} at most",
            effort.argon2_memory_max, effort.argon2_rounds_max
        ));
    }
    let mut bytes = || STANDARD_NO_PAD.decode(parts.next()?).ok();
    let (Some(salt), Some(hash)) = (bytes(), bytes()) else { return Ok(None) };
    if parts.next().is_some() || !(8..=64).contains(&salt.len()) || !(16..=64).contains(&hash.len()) {
        return Ok(None);
    }
    let Ok(params) = Params::new(memory, rounds, lanes, Some(hash.len())) else { return Ok(None) };
    Ok(Some(Hash::Argon2 { algorithm, version, params, salt: salt.into(), hash: hash.into() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EFFORT: Effort =
        Effort { only_sha1: false, bcrypt_max: 12, argon2_memory_max: 65_536, argon2_rounds_max: 4 };

    #[track_caller]
    fn check(line: &str, name: &str, password: &str, expected: bool) {
        let passwords = Passwords::read(line.as_bytes(), EFFORT).unwrap();
        assert_eq!(passwords.verify(name, password.as_bytes()).is_some(), expected, "{name} {password}");
    }

    #[test]
    fn hashes_that_others_have_made_are_of_their_passwords() {
        // htpasswd -bns: Apache 2.4.
        let sha = "ann:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=";
        check(sha, "ann", "password", true);
        check(sha, "ann", "Password", false);
        check(sha, "bob", "password", false);
        // jBCrypt's vectors.
        let bcrypt = "ann:$2a$06$DCq7YPn5Rq63x1Lad4cll.TV4S6ytwfsfvkgY8jIucDrjc8deX1s.";
        check(bcrypt, "ann", "", true);
        check(bcrypt, "ann", "a", false);
        let bcrypt = "ann:$2a$06$m0CrhHm10qJ3lXRY.5zDGO3rS2KdeeWLuGmsfGlMfOxih58VYVfxe";
        check(bcrypt, "ann", "a", true);
        check(bcrypt, "ann", "b", false);
        // The reference implementation's test.c: version 0x13, 2 rounds, 2^8 KiB.
        let argon2 =
            "ann:$argon2i$v=19$m=256,t=2,p=1$c29tZXNhbHQ$iekCn0Y3spW+sCcFanM2xBT63UP2sghkUoHLIUpWRS8";
        check(argon2, "ann", "password", true);
        check(argon2, "ann", "differentpassword", false);
        let argon2 =
            "ann:$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";
        check(argon2, "ann", "password", true);
        check(argon2, "ann", "passwort", false);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let check = |file: &str, effort: Effort, expected: &str| {
            let fault = Passwords::read(file.as_bytes(), effort).unwrap_err().to_string();
            assert!(fault.starts_with(expected), "{fault}");
        };
        check("ann:$apr1$x$y", EFFORT, "line 1: MD5");
        check("\nann:secret", EFFORT, "line 2: its hash is none of");
        check("ann:{SHA}abc", EFFORT, "line 1: '{SHA}' without");
        check("ann:$2y$05$abc", EFFORT, "line 1: it begins as a bcrypt hash");
        let costly = "ann:$2a$13$m0CrhHm10qJ3lXRY.5zDGO3rS2KdeeWLuGmsfGlMfOxih58VYVfxe";
        check(costly, EFFORT, "line 1: a bcrypt of cost 13 takes too long");
        check(
            "ann:$argon2id$v=19$m=1048576,t=2,p=1$c29tZXNhbHQ$aa",
            EFFORT,
            "line 1: an argon2 of m=1048576",
        );
        check("ann:$argon2id$v=19$m=256$c29tZXNhbHQ$aa", EFFORT, "line 1: it begins as a hash of argon2id");
        let sha = "{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=";
        check(&format!("ann:{sha}\nann:{sha}"), EFFORT, "line 2: there is a 'ann' already");
        let envoy = Effort { only_sha1: true, ..EFFORT };
        check(
            "ann:$2a$06$m0CrhHm10qJ3lXRY.5zDGO3rS2KdeeWLuGmsfGlMfOxih58VYVfxe",
            envoy,
            "line 1: only {SHA}",
        );
    }

    #[test]
    fn the_slowest_hash_is_what_a_name_that_is_none_waits_for() {
        let quick = Passwords::read(b"ann:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", EFFORT).unwrap();
        assert!(!quick.is_slow());
        let file = "ann:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\n\
                    bob:$2a$06$m0CrhHm10qJ3lXRY.5zDGO3rS2KdeeWLuGmsfGlMfOxih58VYVfxe";
        let slow = Passwords::read(file.as_bytes(), EFFORT).unwrap();
        assert!(slow.is_slow());
        assert_eq!(slow.decoy.as_ref().map(Hash::cost), Some(64));
        assert_eq!(slow.verify("nobody", b"a"), None);
    }
}
