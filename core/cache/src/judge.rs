//! May an answer that is kept be given (RFC 9111, section 4; RFC 5861)?

use naru_base::Instant;

use crate::control::Asked;
use crate::terms::Terms;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// As it is.
    Fresh,
    /// Stale, as the client allows.
    Stale,
    /// Stale, while another is fetched.
    StaleWhileRevalidate,
    /// Not before its origin has been asked.
    Validate,
}

pub fn judge(terms: &Terms, asked: &Asked, now: Instant) -> Judgement {
    let age = terms.age_at(now);
    if terms.asks_first || asked.no_cache {
        return Judgement::Validate;
    }
    let is_too_old = asked.max_age.is_some_and(|max| age > max);
    let Some(staleness) = terms.staleness(now) else {
        let is_too_near = asked.min_fresh.is_some_and(|min| terms.lifetime - age < min);
        return if is_too_old || is_too_near { Judgement::Validate } else { Judgement::Fresh };
    };
    if terms.is_strict || is_too_old || asked.min_fresh.is_some() {
        return Judgement::Validate;
    }
    if asked.max_stale.is_some_and(|max| staleness <= max) {
        return Judgement::Stale;
    }
    if terms.stale_while_revalidate > 0 && staleness <= terms.stale_while_revalidate {
        return Judgement::StaleWhileRevalidate;
    }
    Judgement::Validate
}

/// Whether whoever waited for it is given it: as it is, or stale while another is fetched.
pub fn may_be_shared(terms: &Terms, now: Instant) -> bool {
    judge(terms, &Asked::default(), now) != Judgement::Validate
}

/// How much longer it may be given where none other comes: in place of a failure (`stale-if-error`), and by who says
/// that anything is better than nothing, as a fallback does. In seconds; `None`: not at all.
pub fn may_be_given_instead(terms: &Terms, asked: &Asked, now: Instant) -> (Option<u32>, bool) {
    if terms.is_strict || terms.asks_first || asked.no_cache {
        return (None, false);
    }
    let allowed = terms.stale_if_error.max(asked.stale_if_error.unwrap_or(0));
    let left = match terms.staleness(now) {
        None => Some(allowed.saturating_add(terms.lifetime - terms.age_at(now))),
        Some(staleness) => (allowed > 0).then(|| allowed.checked_sub(staleness)).flatten(),
    };
    (left, true)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn terms() -> Terms {
        Terms {
            came: Instant::ZERO,
            age: 10,
            lifetime: 60,
            is_by_route: false,
            stale_while_revalidate: 0,
            stale_if_error: 0,
            asks_first: false,
            is_strict: false,
        }
    }

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn it_is_fresh_until_its_age_is_its_lifetime() {
        let asked = Asked::default();
        assert_eq!(judge(&terms(), &asked, at(49)), Judgement::Fresh);
        assert_eq!(judge(&terms(), &asked, at(50)), Judgement::Validate);
        let asks_first = Terms { asks_first: true, ..terms() };
        assert_eq!(judge(&asks_first, &asked, at(0)), Judgement::Validate);
    }

    #[test]
    fn clients_may_want_it_fresher_or_take_it_staler() {
        let max_age = Asked { max_age: Some(20), ..Asked::default() };
        assert_eq!(judge(&terms(), &max_age, at(10)), Judgement::Fresh);
        assert_eq!(judge(&terms(), &max_age, at(11)), Judgement::Validate);
        let min_fresh = Asked { min_fresh: Some(30), ..Asked::default() };
        assert_eq!(judge(&terms(), &min_fresh, at(20)), Judgement::Fresh);
        assert_eq!(judge(&terms(), &min_fresh, at(21)), Judgement::Validate);
        let max_stale = Asked { max_stale: Some(5), ..Asked::default() };
        assert_eq!(judge(&terms(), &max_stale, at(55)), Judgement::Stale);
        assert_eq!(judge(&terms(), &max_stale, at(56)), Judgement::Validate);
        let strict = Terms { is_strict: true, ..terms() };
        assert_eq!(judge(&strict, &max_stale, at(51)), Judgement::Validate);
    }

    #[test]
    fn stale_answers_are_given_as_long_as_they_may() {
        let terms = Terms { stale_while_revalidate: 5, stale_if_error: 9, ..terms() };
        let asked = Asked::default();
        assert_eq!(judge(&terms, &asked, at(55)), Judgement::StaleWhileRevalidate);
        assert_eq!(judge(&terms, &asked, at(56)), Judgement::Validate);
        assert_eq!(may_be_given_instead(&terms, &asked, at(55)), (Some(4), true));
        assert_eq!(may_be_given_instead(&terms, &asked, at(60)), (None, true));
        assert_eq!(may_be_given_instead(&Terms { is_strict: true, ..terms }, &asked, at(55)), (None, false));
    }
}
