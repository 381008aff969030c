//! What is done with what is kept behind a memory: on a disk, in a store that several gateways share?
//!
//! In comes what was found there, or fetched; out goes whether it may be there at all and for how long, whether it is
//! enough, and what a request does with it once it is in the memory. Who asks a disk or a store, and how long they may
//! take, is not decided here.

use std::time::Duration;

use http::header;
use naru_base::Instant;
use naru_spec::{CachePolicy, defaults};

use crate::{Asked, Judgement, Object, Terms, judge};

/// Whether answers of a route may be anywhere but in memory: what is told apart by who somebody is stays there.
pub fn may_hold(policy: &CachePolicy) -> bool {
    let own = [header::AUTHORIZATION, header::COOKIE, header::PROXY_AUTHORIZATION];
    !policy.key.headers.iter().any(|name| own.contains(name))
}

/// How long a store keeps an object, from now; `None` where it is of no use to anybody.
pub fn life(object: &Object, now: Instant) -> Option<Duration> {
    let terms = &object.terms;
    let fresh = u64::from(terms.lifetime.saturating_sub(terms.age_at(now)));
    let stale = u64::from(terms.stale_while_revalidate.max(terms.stale_if_error));
    let kept = if terms.is_strict && object.head.get("etag").is_none() {
        // Nobody may be given it, nor asked about it.
        Duration::ZERO
    } else {
        defaults::CACHE_STALE_KEPT
    };
    let life = Duration::from_secs(fresh + stale) + kept;
    (!life.is_zero()).then_some(life)
}

/// Whether nobody further away needs to be asked.
pub fn is_enough(object: &Object, asked: &Asked, now: Instant) -> bool {
    judge(&object.terms, asked, now) == Judgement::Fresh
}

/// Of two for the same request, whether this one takes the other's place.
pub fn is_newer(object: &Object, than: Option<&Object>, now: Instant) -> bool {
    than.is_none_or(|known| object.terms.age_at(now) < known.terms.age_at(now))
}

/// What a request does with what was found behind the memory, and is in it now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// It is given.
    Give(Judgement),
    /// It is looked for in memory, as whoever is given it has another one fetched.
    LookAgain,
    /// It is asked about.
    Ask,
}

/// `is_background`: the request is for the memory alone.
pub fn use_of(terms: &Terms, asked: &Asked, now: Instant, is_background: bool) -> Use {
    match judge(terms, asked, now) {
        Judgement::Validate => Use::Ask,
        Judgement::StaleWhileRevalidate if is_background => Use::Ask,
        Judgement::StaleWhileRevalidate => Use::LookAgain,
        judgement @ (Judgement::Fresh | Judgement::Stale) => Use::Give(judgement),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, HeaderName, HeaderValue};
    use naru_spec::CacheKeyParts;

    use super::*;
    use crate::{Key, Place};

    fn object(terms: Terms, etag: bool) -> Object {
        let place = Place { is_tls: false, authority: "a", target: "/" };
        let key = Key::new(place, &CacheKeyParts::default(), &HeaderMap::new(), &[]);
        let mut head = HeaderMap::new();
        if etag {
            head.insert("etag", HeaderValue::from_static("\"1\""));
        }
        Object::new(key, &HeaderMap::new(), 200, &head, Bytes::new(), terms).expect("no star")
    }

    fn terms(lifetime: u32) -> Terms {
        Terms {
            came: Instant::ZERO,
            age: 0,
            lifetime,
            stale_while_revalidate: 0,
            stale_if_error: 0,
            asks_first: false,
            is_strict: false,
            is_by_route: false,
        }
    }

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn it_is_kept_for_as_long_as_it_is_of_use() {
        let seconds = |object: &Object, now| life(object, now).map(|life| life.as_secs());
        let kept = defaults::CACHE_STALE_KEPT.as_secs();
        assert_eq!(seconds(&object(terms(60), false), at(10)), Some(50 + kept));
        let stale = Terms { stale_while_revalidate: 5, stale_if_error: 30, ..terms(60) };
        assert_eq!(seconds(&object(stale, false), at(90)), Some(30 + kept));
        // Who must be asked first, and cannot be asked, is of no use once it is stale.
        let strict = Terms { is_strict: true, ..terms(60) };
        assert_eq!(seconds(&object(strict, false), at(10)), Some(50));
        assert_eq!(seconds(&object(strict, false), at(60)), None);
        assert_eq!(seconds(&object(strict, true), at(60)), Some(kept));
    }

    #[test]
    fn what_tells_people_apart_stays_in_memory() {
        let mut policy = CachePolicy::default();
        assert!(may_hold(&policy));
        policy.key.headers = vec![HeaderName::from_static("x-tenant")];
        assert!(may_hold(&policy));
        policy.key.headers.push(header::COOKIE);
        assert!(!may_hold(&policy));
    }

    #[test]
    fn the_freshest_is_taken_and_only_what_is_fresh_is_enough() {
        let asked = Asked::default();
        let (old, new) = (object(terms(60), false), object(Terms { came: at(50), ..terms(60) }, false));
        assert!(is_newer(&old, None, at(70)));
        assert!(is_newer(&new, Some(&old), at(70)) && !is_newer(&old, Some(&new), at(70)));
        assert!(!is_newer(&old, Some(&old), at(70)));
        assert!(is_enough(&new, &asked, at(70)) && !is_enough(&old, &asked, at(70)));
    }

    #[test]
    fn what_is_found_stale_is_asked_about_or_given_while_another_is_fetched() {
        let asked = Asked::default();
        let of = |terms: Terms, now: u64, is_background: bool| use_of(&terms, &asked, at(now), is_background);
        assert_eq!(of(terms(60), 10, false), Use::Give(Judgement::Fresh));
        assert_eq!(of(terms(60), 60, false), Use::Ask);
        let revalidated = Terms { stale_while_revalidate: 30, ..terms(60) };
        assert_eq!(of(revalidated, 70, false), Use::LookAgain);
        assert_eq!(of(revalidated, 70, true), Use::Ask, "it is what fetches another");
        assert_eq!(of(revalidated, 95, false), Use::Ask);
    }
}
