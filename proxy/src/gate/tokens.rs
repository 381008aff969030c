//! Tokens, read and held against keys.
//!
//! What a worker has verified it remembers, as long as the keys are the same: a signature costs a hundred times what a
//! look does. Keys that others publish are fetched by whichever worker wants them first, for all of them; requests that
//! cannot do without wait for it. When that is, is `naru_identity::Freshness`'s to say.

mod fetch;

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use naru_base::Instant;
use naru_identity::{Denial, Freshness, Token, Turn};
use naru_jose::{Jwks, Jwt, KeyFault, TokenFault};
use naru_journey::gate::tokens::{KeysId, Read, Reading};
use naru_spec::defaults::{JWT_CACHE, JWT_CACHED_BYTES_MAX};
use naru_spec::{DataSource, Invalid, JwtKeys};
use tokio::sync::Notify;

use crate::loaded::Loaded;
use crate::worker::Worker;

/// The keys of one place, for all workers.
#[derive(Debug)]
pub struct SharedKeys {
    from: JwtKeys,
    state: Mutex<State>,
    /// Another number whenever they are others.
    version: AtomicU64,
    /// Whenever a fetch has ended.
    ended: Notify,
}

#[derive(Debug)]
struct State {
    keys: Option<Arc<Jwks>>,
    /// No longer published, and until when they verify all the same.
    previous: Option<(Arc<Jwks>, Instant)>,
    freshness: Freshness,
    fetches: u64,
}

/// Those of a snapshot, by their ids.
pub type AllKeys = Arc<[Arc<SharedKeys>]>;

impl SharedKeys {
    /// What was fetched before from the same place stays; files are read anew.
    ///
    /// # Errors
    /// Keys that stand in the configuration or in a file, and are none; by their ids.
    pub fn share(all: &[JwtKeys], older: Option<&AllKeys>) -> Result<AllKeys, Vec<(usize, Invalid)>> {
        let mut problems = Vec::new();
        let mut shared = Vec::new();
        for (at, from) in all.iter().enumerate() {
            let known = older.and_then(|older| older.iter().find(|known| known.from == *from));
            match (from, known) {
                (JwtKeys::Remote(_), Some(known)) => shared.push(Arc::clone(known)),
                _ => match SharedKeys::new(from) {
                    Ok(keys) => shared.push(Arc::new(keys)),
                    Err(invalid) => problems.push((at, invalid)),
                },
            }
        }
        if problems.is_empty() { Ok(shared.into()) } else { Err(problems) }
    }

    fn new(from: &JwtKeys) -> Result<SharedKeys, Invalid> {
        let (keys, freshness) = match from {
            JwtKeys::Local(source) => {
                (Some(Arc::new(local(source)?)), Freshness::new(Duration::MAX, Duration::MAX))
            }
            JwtKeys::Remote(remote) => (None, Freshness::new(remote.cache, remote.timeout)),
        };
        let state = State { keys, previous: None, freshness, fetches: 0 };
        Ok(SharedKeys {
            from: from.clone(),
            state: Mutex::new(state),
            version: AtomicU64::new(1),
            ended: Notify::new(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that holds it panics half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, now: Instant, fetched: Option<Jwks>) {
        let mut state = self.state();
        match fetched {
            Some(keys) => {
                if let Some(before) = state.keys.replace(Arc::new(keys)) {
                    state.previous = Some((before, Freshness::previous_until(now)));
                }
                state.freshness.on_fetched(now);
                self.version.fetch_add(1, Ordering::Release);
            }
            None => state.freshness.on_failed(now),
        }
        state.fetches += 1;
        drop(state);
        self.ended.notify_waiters();
    }

    /// How often they were fetched, well or not.
    pub fn fetches(&self) -> u64 {
        self.state().fetches
    }
}

/// Which keys of a set no token can be held against, each with why.
///
/// # Errors
/// That is so of all of them, or it is no set of keys.
pub fn check_keys(text: &[u8]) -> Result<Vec<String>, String> {
    let keys = Jwks::parse(text).map_err(|fault| fault.to_string())?;
    let left_out = keys.left_out().iter();
    Ok(left_out
        .map(|(kid, fault)| format!("key '{}': {fault}", kid.as_deref().unwrap_or("without a kid")))
        .collect())
}

fn local(source: &DataSource) -> Result<Jwks, Invalid> {
    let bytes = match source {
        DataSource::Inline(bytes) => bytes.clone(),
        DataSource::File(path) => std::fs::read(path)
            .map_err(|error| Invalid::new(format!("the keys of tokens in {path} cannot be read: {error}")))?,
        DataSource::Environment(name) => std::env::var(name)
            .map_err(|_| Invalid::new(format!("the keys of tokens are not in the environment, as {name}")))?
            .into_bytes(),
    };
    let keys =
        Jwks::parse(&bytes).map_err(|fault| Invalid::new(format!("the keys of tokens are none: {fault}")))?;
    // Whoever wrote them meant them to be used.
    let lost =
        keys.left_out().iter().find(|(_, fault)| matches!(fault, KeyFault::Mixed | KeyFault::Repeated));
    if let Some((kid, fault)) = lost {
        let kid = kid.as_deref().unwrap_or_default();
        return Err(Invalid::new(format!("the key \"{kid}\" for tokens cannot be used: {fault}")));
    }
    Ok(keys)
}

/// What one worker knows of keys and tokens.
#[derive(Debug)]
pub struct TokensHere {
    all: AllKeys,
    here: Vec<RefCell<KeysHere>>,
}

#[derive(Debug, Default)]
struct KeysHere {
    version: u64,
    keys: Option<Arc<Jwks>>,
    previous: Option<(Arc<Jwks>, Instant)>,
    /// From when on they are too old: see [`Freshness::due`].
    due: Option<Instant>,
    /// Tokens that the keys have verified: those of late, and those before. None that a key has verified which is not
    /// published any more: it would outlive that key.
    young: HashMap<Box<str>, Arc<Token>>,
    old: HashMap<Box<str>, Arc<Token>>,
}

impl KeysHere {
    fn refresh(&mut self, shared: &SharedKeys) {
        let version = shared.version.load(Ordering::Acquire);
        if version == self.version {
            return;
        }
        let state = shared.state();
        *self = KeysHere {
            version,
            keys: state.keys.clone(),
            previous: state.previous.clone(),
            due: state.freshness.due(),
            ..KeysHere::default()
        };
    }

    fn remembered(&self, token: &str) -> Option<Arc<Token>> {
        self.young.get(token).or_else(|| self.old.get(token)).cloned()
    }

    fn remember(&mut self, text: &str, token: &Arc<Token>) {
        if text.len() > JWT_CACHED_BYTES_MAX {
            return;
        }
        if self.young.len() >= JWT_CACHE / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(text.into(), Arc::clone(token));
    }

    /// `None` where there are no keys at all. Says of a token that is signed whether its key is still published.
    fn verify(&self, now: Instant, token: &Jwt<'_>) -> Option<Result<bool, TokenFault>> {
        let verified = self.keys.as_ref()?.verify(&token.compact);
        let previous = self.previous.as_ref().filter(|(_, until)| now < *until);
        Some(match (verified, previous) {
            (Err(TokenFault::NoKey), Some((previous, _))) => previous.verify(&token.compact).map(|()| false),
            (verified, _) => verified.map(|()| true),
        })
    }
}

impl TokensHere {
    pub fn new(all: &AllKeys) -> TokensHere {
        TokensHere { all: Arc::clone(all), here: all.iter().map(|_| RefCell::default()).collect() }
    }

    fn of(&self, id: KeysId) -> Option<(&Arc<SharedKeys>, &RefCell<KeysHere>)> {
        self.all.get(id.index()).zip(self.here.get(id.index()))
    }
}

/// Reads a token, and holds it against keys; where these are not there, it waits for them.
pub async fn read(worker: &Rc<Worker>, loaded: &Rc<Loaded>, reading: Reading) -> Read {
    let answer = match verified(worker, loaded, &reading).await {
        Ok((accepted, token)) => Ok((accepted, token)),
        Err(denial) => Err(denial),
    };
    Read { wanted: reading.wanted, answer }
}

async fn verified(
    worker: &Rc<Worker>,
    loaded: &Rc<Loaded>,
    reading: &Reading,
) -> Result<(naru_identity::Accepted, Arc<Token>), Denial> {
    let (wanted, of) = (&reading.wanted, &reading.of);
    let clock = &worker.clock;
    let seconds = || i64::try_from(clock.wall(clock.now()).0 / 1_000_000_000).unwrap_or(i64::MAX);
    // A token that is remembered was read; what it claims is asked again, as time goes by.
    for id in &of.keys {
        let Some((shared, here)) = loaded.tokens.of(*id) else { continue };
        let mut here = here.borrow_mut();
        here.refresh(shared);
        if let Some(token) = here.remembered(&wanted.token) {
            let accepted = of.authentication.accept(wanted, &token.claims, seconds())?;
            // Whose keys verified it, those of another provider may not have.
            if of.keys.get(accepted.provider) == Some(id) {
                let is_due = here.due.is_some_and(|due| clock.now() >= due);
                drop(here);
                // Whoever comes with the same token again and again has keys fetched as others do: else one that is
                // published no more would be believed for as long as he comes.
                if is_due {
                    want(worker, loaded, shared, false);
                }
                return Ok((accepted, token));
            }
        }
    }
    let jwt = Jwt::parse(&wanted.token).map_err(|fault| Denial::Unreadable(fault.text()))?;
    let accepted = of.authentication.accept(wanted, &jwt.claims, seconds())?;
    let id = of.keys.get(accepted.provider).copied().ok_or(Denial::UnknownIssuer)?;
    let (shared, here) = loaded.tokens.of(id).ok_or(Denial::UnknownIssuer)?;
    loop {
        let verified = {
            let mut here = here.borrow_mut();
            here.refresh(shared);
            let verified = here.verify(clock.now(), &jwt);
            if let Some(Ok(is_published)) = verified {
                let payload = jwt.compact.payload_text().into();
                let token = Arc::new(Token { claims: jwt.claims.clone(), payload });
                if is_published {
                    here.remember(&wanted.token, &token);
                }
                want(worker, loaded, shared, false);
                return Ok((accepted, token));
            }
            verified
        };
        // That another key than the one of its name signed it is no reason to look for others.
        let is_unknown = verified.is_none() || verified == Some(Err(TokenFault::NoKey));
        // Who waits must hear of an end that comes before it waits.
        let ended = shared.ended.notified();
        let turn = if is_unknown { want(worker, loaded, shared, true) } else { Turn::Use };
        match (turn, verified) {
            (Turn::Fetch | Turn::Wait, _) => ended.await,
            (Turn::Use | Turn::UseAndFetch, Some(Err(fault))) => {
                return Err(Denial::Unreadable(fault.text()));
            }
            (Turn::Use | Turn::UseAndFetch, _) => return Err(Denial::Fetch),
        }
        let has_failed = shared.state().freshness.has_failed();
        if has_failed {
            return Err(match verified {
                Some(Err(fault)) => Denial::Unreadable(fault.text()),
                _ => Denial::Fetch,
            });
        }
    }
}

/// Whether somebody who wants keys takes what is there. Whoever is to fetch them has that done beside.
fn want(worker: &Rc<Worker>, loaded: &Rc<Loaded>, shared: &Arc<SharedKeys>, is_unknown: bool) -> Turn {
    let JwtKeys::Remote(remote) = &shared.from else { return Turn::Use };
    let turn = shared.state().freshness.on_wanted(worker.clock.now(), is_unknown);
    if matches!(turn, Turn::Fetch | Turn::UseAndFetch) {
        let (worker, loaded, shared) = (Rc::clone(worker), Rc::clone(loaded), Arc::clone(shared));
        let (remote, nth) = (remote.clone(), shared.fetches());
        tokio::task::spawn_local(async move {
            let fetched = tokio::time::timeout(remote.timeout, fetch::fetch(&loaded, &remote, nth)).await;
            // Who is sent secrets by others could be made to sign with them.
            let keys =
                fetched.ok().flatten().and_then(|text| Jwks::parse(&text).ok()).map(Jwks::without_secrets);
            shared.put(worker.clock.now(), keys.filter(|keys| !keys.keys().is_empty()));
        });
    }
    turn
}
