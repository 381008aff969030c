//! Rate limits of requests, by who asks.
//!
//! What a request's key is, is decided here; whether the key has room is asked of whoever keeps the counts: at once
//! where they are this process's own ([`View::spend`]), by a [`Question`] where they are elsewhere. The answer to the
//! client says what is left, by the `RateLimit` fields (draft-ietf-httpapi-ratelimit-headers-10) and, to one that is
//! refused, `Retry-After` (RFC 9110, section 10.2.3).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use http::header::{COOKIE, HeaderMap, RETRY_AFTER};
use http::{HeaderName, HeaderValue};
use naru_admit::quota::{Room, Spent};
use naru_base::{Instant, Json, Reason};
use naru_spec::{Lacking, Quota, QuotaKey, Quotas, StoreUse, WithoutStore, defaults};

use super::{Answer, Head, Memory, Question, Refusal, Step};
use crate::View;

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// What a token of a login session calls it.
const SESSION_ID: &str = "sid";

/// As many as [`Spent::shadowed`] has bits for.
const TOGETHER_MAX: usize = 32;

/// An index into [`crate::Snapshot::quotas`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QuotaId(pub u32);

impl QuotaId {
    #[inline]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// The limits of a snapshot: those of one name are one.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub all: Vec<Quota>,
    /// Those that are counted elsewhere, and in which store.
    pub stored: Vec<(QuotaId, String)>,
    by_name: BTreeMap<String, QuotaId>,
}

impl Known {
    pub(crate) fn id(&mut self, quota: &Quota) -> QuotaId {
        let next = QuotaId(self.all.len() as u32);
        *self.by_name.entry(quota.name.clone()).or_insert_with(|| {
            self.all.push(quota.clone());
            next
        })
    }
}

/// What one request takes of one limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    pub quota: QuotaId,
    /// Of all who share a count; its parts are told apart whatever they hold.
    pub key: Box<[u8]>,
    pub cost: u32,
    pub is_shadow: bool,
}

/// Asked of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// By name.
    pub store: String,
    pub claims: Vec<Claim>,
    /// Whoever asks waits so long.
    pub within: Duration,
    pub otherwise: WithoutStore,
}

/// What is said to claims: how much is left of each, in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    pub spent: Spent,
    pub rooms: Vec<Room>,
}

#[derive(Debug)]
pub struct CompiledQuotas {
    limits: Box<[CompiledQuota]>,
    store: Option<StoreUse>,
}

#[derive(Debug)]
struct CompiledQuota {
    id: QuotaId,
    /// What is counted here while the store gives no answer.
    part: Option<QuotaId>,
    key: Box<[QuotaKey]>,
    lacking: Lacking,
    cost: u32,
    is_shadow: bool,
    /// As the fields call it.
    label: Box<str>,
    window: Duration,
}

impl CompiledQuotas {
    pub(crate) fn new(settings: &Quotas, known: &mut Known) -> CompiledQuotas {
        let mut id = |quota: &Quota| {
            let id = known.id(quota);
            if let Some(store) = &settings.store {
                known.stored.push((id, store.name.clone()));
            }
            (id, part_of(quota, settings.store.as_ref()).map(|part| known.id(&part)))
        };
        let ids: Vec<_> = settings.limits.iter().map(&mut id).collect();
        let limits = settings.limits.iter().zip(ids).map(|(quota, (id, part))| CompiledQuota {
            id,
            part,
            key: quota.key.clone().into_boxed_slice(),
            lacking: quota.lacking,
            cost: quota.cost,
            is_shadow: quota.is_shadow,
            label: label(&quota.name),
            window: quota.algorithm.policy().1,
        });
        CompiledQuotas { limits: limits.collect(), store: settings.store.clone() }
    }

    /// Who counts, if not this proxy.
    pub fn store(&self) -> Option<&str> {
        self.store.as_ref().map(|store| store.name.as_str())
    }

    /// Whether both are counted at the same place, and none of the other's limits is here already.
    pub(crate) fn can_join(&self, other: &CompiledQuotas) -> bool {
        let is_here = |limit: &CompiledQuota| self.limits.iter().any(|known| known.id == limit.id);
        self.store.is_none()
            && other.store.is_none()
            && self.limits.len() + other.limits.len() <= TOGETHER_MAX
            && !other.limits.iter().any(is_here)
    }

    pub(crate) fn join(&mut self, other: CompiledQuotas) {
        let own = std::mem::take(&mut self.limits).into_vec();
        self.limits = own.into_iter().chain(other.limits).collect();
    }

    pub(crate) fn decide(
        &self,
        now: Instant,
        head: &Head<'_>,
        answer: Option<Answer>,
        memory: &mut Memory,
        view: &impl View,
    ) -> Step {
        let mut claims = self.claims(head, memory);
        if claims.is_empty() {
            return Step::Pass;
        }
        let said = match (&self.store, answer) {
            (None, _) => view.spend(now, &claims),
            (Some(_), Some(Answer::Spent(said))) if said.rooms.len() == claims.len() => said,
            (Some(store), None) => {
                let (within, otherwise) = (store.timeout, store.otherwise);
                let asked = Asked { store: store.name.clone(), claims, within, otherwise };
                return Step::Ask(Question::Spend(asked), store.timeout);
            }
            (Some(store), Some(_)) => match store.otherwise {
                WithoutStore::Allow => return Step::Pass,
                WithoutStore::Refuse => {
                    return Step::Refuse(Box::new(Refusal::of(Reason::QuotaUnknown)));
                }
                WithoutStore::Local => {
                    claims.iter_mut().for_each(|claim| claim.quota = self.part(claim.quota));
                    view.spend(now, &claims)
                }
            },
        };
        self.tell(&claims, &said.rooms, &mut memory.told);
        match said.spent.refused_by {
            None => Step::Pass,
            Some(at) => Step::Refuse(Box::new(refusal(said.rooms.get(at)))),
        }
    }

    /// One for each limit of which the request has the key.
    fn claims(&self, head: &Head<'_>, memory: &Memory) -> Vec<Claim> {
        let claims = self.limits.iter().filter_map(|limit| {
            let key = key_of(limit, head, memory)?;
            Some(Claim { quota: limit.id, key, cost: limit.cost, is_shadow: limit.is_shadow })
        });
        claims.collect()
    }

    fn part(&self, quota: QuotaId) -> QuotaId {
        self.limits.iter().find(|limit| limit.id == quota).and_then(|limit| limit.part).unwrap_or(quota)
    }

    /// Limits in shadow are none to the client.
    fn tell(&self, claims: &[Claim], rooms: &[Room], told: &mut Vec<(HeaderName, HeaderValue)>) {
        for (claim, room) in claims.iter().zip(rooms).filter(|(claim, _)| !claim.is_shadow) {
            let is_it = |limit: &&CompiledQuota| limit.id == claim.quota || limit.part == Some(claim.quota);
            let Some(limit) = self.limits.iter().find(is_it) else { continue };
            let label = &limit.label;
            let policy = format!("\"{label}\";q={};w={}", room.limit, seconds(limit.window));
            let left = format!("\"{label}\";r={};t={}", room.remaining, seconds(room.reset));
            let values = [(RATE_LIMIT_POLICY, policy), (RATE_LIMIT, left)];
            told.extend(
                values.into_iter().filter_map(|(name, text)| Some((name, HeaderValue::try_from(text).ok()?))),
            );
        }
    }
}

/// Of a limit that is counted elsewhere.
fn part_of(quota: &Quota, store: Option<&StoreUse>) -> Option<Quota> {
    let store = store.filter(|store| store.otherwise == WithoutStore::Local)?;
    let algorithm = quota.algorithm.part(store.proxies, quota.cost);
    Some(Quota {
        name: format!("{}{}", quota.name, defaults::QUOTA_LOCAL_SUFFIX),
        algorithm,
        ..quota.clone()
    })
}

fn refusal(room: Option<&Room>) -> Refusal {
    let mut refusal = Refusal::of(Reason::QuotaExceeded);
    if let Some(wait) = room.and_then(|room| room.retry_after).filter(|wait| *wait < Duration::MAX) {
        // Who comes at once comes too early.
        refusal.headers.push((RETRY_AFTER, HeaderValue::from(seconds(wait).max(1))));
    }
    refusal
}

/// Rounded up.
fn seconds(time: Duration) -> u64 {
    time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0))
}

/// The last part of a name, as a string of structured fields has it (RFC 8941, section 3.3.3).
fn label(name: &str) -> Box<str> {
    let last = name.rsplit('/').next().unwrap_or(name);
    let plain = last.chars().filter(|c| matches!(c, ' '..='~') && !matches!(c, '"' | '\\'));
    plain.collect::<String>().into_boxed_str()
}

/// `None` where the request lacks a part, and is not to be counted then. Each part stands behind its length, one that is
/// lacking behind a length that none has.
fn key_of(limit: &CompiledQuota, head: &Head<'_>, memory: &Memory) -> Option<Box<[u8]>> {
    let mut key = Vec::new();
    for part in &limit.key {
        match (part_of_key(part, head, memory), limit.lacking) {
            (Some(part), _) => put(&mut key, &part),
            (None, Lacking::Together) => key.extend(u32::MAX.to_be_bytes()),
            (None, Lacking::Uncounted) => return None,
        }
    }
    Some(key.into_boxed_slice())
}

fn part_of_key<'a>(part: &QuotaKey, head: &'a Head<'_>, memory: &'a Memory) -> Option<Cow<'a, [u8]>> {
    let part = match part {
        QuotaKey::Address { ipv6_bits } => {
            return Some(Cow::Owned(address(head.client.address.ip(), *ipv6_bits)));
        }
        QuotaKey::Claim(path) => return text_of(memory.claim(path)?),
        QuotaKey::Header(name) => head.headers.get(name)?.as_bytes(),
        QuotaKey::Cookie(name) => cookie(head.headers, name)?,
        QuotaKey::Path => head.line.path.path().as_bytes(),
        QuotaKey::Method => head.line.method.as_str().as_bytes(),
        QuotaKey::Session => memory.session.as_ref()?.claims.get(SESSION_ID)?.as_text()?.as_bytes(),
    };
    Some(Cow::Borrowed(part))
}

/// What a claim says who it is by: a text, a number, yes or no. A list and an object say nobody.
fn text_of(claim: &Json) -> Option<Cow<'_, [u8]>> {
    match claim {
        Json::Text(text) => Some(Cow::Borrowed(text.as_bytes())),
        Json::Whole(whole) => Some(Cow::Owned(whole.to_string().into_bytes())),
        Json::Real(real) => Some(Cow::Owned(real.to_string().into_bytes())),
        Json::Bool(is) => Some(Cow::Owned(is.to_string().into_bytes())),
        Json::Null | Json::List(_) | Json::Map(_) => None,
    }
}

fn put(key: &mut Vec<u8>, part: &[u8]) {
    let part = part.get(..defaults::QUOTA_KEY_BYTES_MAX).unwrap_or(part);
    key.extend((part.len() as u32).to_be_bytes());
    key.extend(part);
}

/// An address of IPv4 that is written as one of IPv6 is that of IPv4.
fn address(address: IpAddr, ipv6_bits: u8) -> Vec<u8> {
    match address.to_canonical() {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(ipv6_bits.min(128))).unwrap_or(0);
            (address.to_bits() & mask).to_be_bytes().to_vec()
        }
    }
}

fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    let lines = headers.get_all(COOKIE).into_iter().map(HeaderValue::as_bytes);
    let mut pairs = lines.flat_map(|line| line.split(|byte| *byte == b';')).map(<[u8]>::trim_ascii);
    pairs.find_map(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}
