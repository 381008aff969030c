//! Which copies of a request are made, and what is different about them?
//!
//! Source: Envoy's `FilterUtility::shouldShadow` and `ShadowWriterImpl`. All mirrors of a route are
//! rolled by one draw, as in Envoy: of two with 10 % each, both get the same requests. A copy is not
//! traced, waits for nobody, and its answer is dropped or compared ([`compare`]).

use http::{HeaderMap, HeaderValue, Method, header};
use naru_spec::fault::shadow_host;
use naru_spec::{Mirror, MirrorHost, MirrorWrites, defaults};

pub mod compare;
pub mod json;

/// Which mirrors of a list get a copy, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Rolled(u32);

const _: () = assert!(defaults::MIRRORS_MAX <= u32::BITS as usize);

/// Mirrors beyond [`defaults::MIRRORS_MAX`] get none.
#[inline]
pub fn roll(mirrors: &[Mirror], method: &Method, draw: u64) -> Rolled {
    let mut rolled = Rolled::default();
    for (at, mirror) in mirrors.iter().enumerate().take(defaults::MIRRORS_MAX) {
        if mirror.share.takes(draw) && may_copy(mirror, method) {
            rolled.0 |= 1 << at;
        }
    }
    rolled
}

fn may_copy(mirror: &Mirror, method: &Method) -> bool {
    match mirror.writes {
        MirrorWrites::NotSent => is_safe(method),
        MirrorWrites::Sent | MirrorWrites::Marked(_) => true,
    }
}

/// RFC 9110, section 9.2.1.
pub fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE)
}

/// Whether a request is sent to its own cluster a second time, so that noise is learned from the two answers: the first
/// of those that are compared, and then one now and again. `compared` is how many were before.
#[inline]
pub fn learns(compared: u64) -> bool {
    compared < defaults::NOISE_LEARNED_FIRST || compared.is_multiple_of(defaults::NOISE_LEARNED_EVERY)
}

impl Rolled {
    #[inline]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Positions in the list.
    pub fn positions(self) -> impl Iterator<Item = usize> {
        (0..u32::BITS as usize).filter(move |at| self.0 & 1 << at != 0)
    }
}

/// Makes the headers of the request those of its copy.
pub fn address(mirror: &Mirror, method: &Method, headers: &mut HeaderMap) {
    let host = match &mirror.host {
        MirrorHost::Same => None,
        MirrorHost::Literal(host) => Some(host.clone()),
        MirrorHost::Shadow => headers.get(header::HOST).and_then(|host| host.to_str().ok()).map(shadow_host),
    };
    if let Some(host) = host.and_then(|host| HeaderValue::try_from(host).ok()) {
        headers.insert(header::HOST, host);
    }
    if let MirrorWrites::Marked(name) = &mirror.writes
        && !is_safe(method)
    {
        headers.insert(name.clone(), HeaderValue::from_static("true"));
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderName;
    use naru_base::share::Denominator;
    use naru_base::{Chance, Fraction};

    use super::*;

    #[test]
    fn mirrors_are_rolled_by_one_draw() {
        let part = |percent| Mirror {
            share: Fraction::new(percent, Denominator::Hundred),
            ..Mirror::to(format!("m{percent}"))
        };
        let mirrors = [part(10), part(0), part(100), part(20)];
        let mut chance = Chance::new(2);
        let mut counts = [0_u32; 4];
        for _ in 0..100_000 {
            let rolled = roll(&mirrors, &Method::GET, chance.draw());
            let of_ten = rolled.positions().any(|at| at == 0);
            assert!(!of_ten || rolled.positions().any(|at| at == 3), "10 % are among the 20 %");
            rolled.positions().for_each(|at| counts[at] += 1);
        }
        assert_eq!((counts[1], counts[2]), (0, 100_000));
        assert!((9_500..10_500).contains(&counts[0]) && (19_500..20_500).contains(&counts[3]), "{counts:?}");
        assert!(roll(&[], &Method::GET, 0).is_empty());
        let many = vec![part(100); 40];
        assert_eq!(roll(&many, &Method::GET, 0).positions().count(), defaults::MIRRORS_MAX);
    }

    #[test]
    fn noise_is_learned_at_first_and_then_now_and_again() {
        let learned: Vec<u64> = (0..100).filter(|compared| learns(*compared)).collect();
        assert_eq!(learned, [0, 1, 2, 3, 4, 5, 6, 7, 32, 64, 96]);
    }

    #[test]
    fn requests_that_write_are_copied_as_is_said() {
        let marked = MirrorWrites::Marked(HeaderName::from_static("x-dry-run"));
        let with = |writes| Mirror { writes, ..Mirror::to("m") };
        for (writes, is_sent) in
            [(MirrorWrites::Sent, true), (MirrorWrites::NotSent, false), (marked.clone(), true)]
        {
            let mirrors = [with(writes)];
            assert_eq!(!roll(&mirrors, &Method::POST, 0).is_empty(), is_sent);
            assert!(!roll(&mirrors, &Method::GET, 0).is_empty());
        }
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static("a:1"));
        address(&with(marked.clone()), &Method::GET, &mut headers);
        assert!(headers.get("x-dry-run").is_none());
        address(&with(marked), &Method::POST, &mut headers);
        assert_eq!(headers.get("x-dry-run").unwrap(), "true");
        assert_eq!(headers.get(header::HOST).unwrap(), "a-shadow-shadow:1");
    }
}
