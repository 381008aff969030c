//! What is an access token worth?
//!
//! In come its key, whether its signature holds and what it claims; out comes a verdict, and with it what a client is to
//! do: nothing, refresh, or log in again.

use std::time::Duration;

use naru_base::{Reason, WallTime};

use crate::{Id, Revoked, Standing, Subject};

/// What a token says of itself; its signature holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claims {
    pub jti: Id,
    /// The session that it was issued in.
    pub sid: Id,
    /// Whose session it is.
    pub subject: Subject,
    /// When that session began.
    pub began: WallTime,
    pub not_before: WallTime,
    pub expires: WallTime,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Served,
    /// It is served, and to be refreshed.
    ServedAndStale,
    Expired,
    /// Its key does not sign any more, and is not served any more.
    KeyRotated,
    /// Somebody has logged out, or the session was stolen.
    Revoked,
    /// It is none of ours, or is damaged, or comes from the future.
    Invalid,
}

/// `claims` are there where the signature of a key that is known holds.
/// What is revoked may stand in several lists.
pub fn judge<'a>(
    now: WallTime,
    standing: Standing,
    claims: Option<&Claims>,
    revoked: impl IntoIterator<Item = &'a Revoked, IntoIter: Clone>,
    skew: Duration,
) -> Verdict {
    let mut lists = revoked.into_iter();
    let Some(claims) = claims else {
        // Of a key that is forgotten nobody can say whether it was ours: the refresh token does.
        return if standing == Standing::Unknown { Verdict::KeyRotated } else { Verdict::Invalid };
    };
    let is_on = |list: &Revoked| {
        list.has(claims.jti) || list.has(claims.sid) || list.is_over(claims.subject, claims.began)
    };
    if lists.clone().any(is_on) {
        return Verdict::Revoked;
    }
    let ends = claims.expires + skew;
    if now >= ends {
        return Verdict::Expired;
    }
    if now + skew < claims.not_before {
        return Verdict::Invalid;
    }
    match standing {
        Standing::Past | Standing::Unknown => Verdict::KeyRotated,
        _ if lists.any(|list| list.may_have_forgotten(ends)) => Verdict::Expired,
        Standing::Good if now < claims.expires => Verdict::Served,
        Standing::Good | Standing::InGrace => Verdict::ServedAndStale,
    }
}

impl Verdict {
    /// Whether the client is told to refresh: `X-Token-Refresh-Needed: true`.
    pub fn needs_refresh(self) -> bool {
        matches!(self, Verdict::ServedAndStale | Verdict::Expired | Verdict::KeyRotated)
    }

    /// Whether the client is told to log in: `X-Relogin-Required: true`.
    pub fn needs_login(self) -> bool {
        self == Verdict::Revoked
    }

    /// Why the request is refused, where it is.
    pub fn refusal(self) -> Option<Reason> {
        match self {
            Verdict::Served | Verdict::ServedAndStale => None,
            Verdict::Expired => Some(Reason::SessionExpired),
            Verdict::KeyRotated => Some(Reason::SessionKeyRotated),
            Verdict::Revoked => Some(Reason::SessionRevoked),
            Verdict::Invalid => Some(Reason::SessionInvalid),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SKEW: Duration = Duration::from_secs(60);

    fn at(seconds: u64) -> WallTime {
        WallTime(0) + Duration::from_secs(1_000_000 + seconds)
    }

    fn claims() -> Claims {
        Claims {
            jti: Id(1),
            sid: Id(2),
            subject: Subject::of(&[3; 32]),
            began: at(0),
            not_before: at(0),
            expires: at(900),
        }
    }

    fn judged(seconds: u64, standing: Standing) -> Verdict {
        judge(at(seconds), standing, Some(&claims()), [&Revoked::new(10)], SKEW)
    }

    #[test]
    fn a_token_is_served_until_it_expires_and_a_little_longer() {
        assert_eq!(judged(0, Standing::Good), Verdict::Served);
        assert_eq!(judged(899, Standing::Good), Verdict::Served);
        assert_eq!(judged(900, Standing::Good), Verdict::ServedAndStale, "clocks may be apart");
        assert_eq!(judged(959, Standing::Good), Verdict::ServedAndStale);
        assert_eq!(judged(960, Standing::Good), Verdict::Expired);
        assert!(Verdict::Expired.needs_refresh() && !Verdict::Expired.needs_login());
    }

    #[test]
    fn a_token_of_the_key_before_is_served_in_its_grace_period_and_says_so() {
        assert_eq!(judged(10, Standing::InGrace), Verdict::ServedAndStale);
        assert_eq!(judged(10, Standing::Past), Verdict::KeyRotated);
        assert!(Verdict::KeyRotated.needs_refresh());
        assert_eq!(Verdict::KeyRotated.refusal().map(Reason::status), Some(401));
    }

    #[test]
    fn a_revoked_token_or_session_is_to_log_in_whatever_else_holds() {
        for id in [Id(1), Id(2)] {
            let mut revoked = Revoked::new(10);
            revoked.add(id, at(960));
            for standing in [Standing::Good, Standing::InGrace, Standing::Past] {
                let verdict = judge(at(10), standing, Some(&claims()), [&revoked], SKEW);
                assert_eq!(verdict, Verdict::Revoked);
                assert!(verdict.needs_login() && !verdict.needs_refresh());
            }
        }
    }

    #[test]
    fn all_sessions_of_somebody_who_was_thrown_out_are_to_log_in_and_those_of_after_are_served() {
        let mut revoked = Revoked::new(10);
        revoked.add(claims().subject.over_by(crate::subject::second(at(0))), at(10_000));
        let told = |claims: &Claims| judge(at(10), Standing::Good, Some(claims), [&revoked], SKEW);
        assert_eq!(told(&claims()), Verdict::Revoked);
        assert_eq!(told(&Claims { jti: Id(7), sid: Id(8), ..claims() }), Verdict::Revoked);
        assert_eq!(told(&Claims { began: at(1), ..claims() }), Verdict::Served);
        assert_eq!(told(&Claims { subject: Subject::of(&[4; 32]), ..claims() }), Verdict::Served);
    }

    #[test]
    fn what_is_forged_is_refused_and_what_nobody_can_tell_is_refreshed() {
        let revoked = Revoked::new(10);
        assert_eq!(judge(at(1), Standing::Good, None, [&revoked], SKEW), Verdict::Invalid);
        assert_eq!(judge(at(1), Standing::Past, None, [&revoked], SKEW), Verdict::Invalid);
        assert_eq!(judge(at(1), Standing::Unknown, None, [&revoked], SKEW), Verdict::KeyRotated);
        let of_the_future = Claims { not_before: at(100), ..claims() };
        assert_eq!(judge(at(39), Standing::Good, Some(&of_the_future), [&revoked], SKEW), Verdict::Invalid);
        assert_eq!(judge(at(40), Standing::Good, Some(&of_the_future), [&revoked], SKEW), Verdict::Served);
    }

    #[test]
    fn where_the_list_was_too_long_tokens_of_then_are_refreshed() {
        let mut revoked = Revoked::new(1);
        revoked.add(Id(7), at(960));
        revoked.add(Id(8), at(970));
        assert_eq!(judge(at(10), Standing::Good, Some(&claims()), [&revoked], SKEW), Verdict::Expired);
        let later = Claims { expires: at(901), ..claims() };
        assert_eq!(judge(at(10), Standing::Good, Some(&later), [&revoked], SKEW), Verdict::Served);
    }
}
