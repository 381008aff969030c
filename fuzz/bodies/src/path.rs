//! The path of a request, brought into one form.

use http::uri::PathAndQuery;
use naru_journey::path::{Normalized, normalize};
use naru_spec::{EscapedSlashes, Paths};

const ESCAPED: [EscapedSlashes; 4] =
    [EscapedSlashes::Keep, EscapedSlashes::Reject, EscapedSlashes::Redirect, EscapedSlashes::Forward];

/// Whatever the rules, what comes out is a path without steps up, with the query that it had, and stays as it is where
/// the rules are asked again.
pub fn path(bytes: &[u8]) {
    let Ok(target) = PathAndQuery::try_from(bytes) else { return };
    for rules in 0..16_usize {
        let (normalize_dots, merge_slashes) = (rules & 1 != 0, rules & 2 != 0);
        let rules = Paths { normalize: normalize_dots, merge_slashes, escaped_slashes: ESCAPED[rules >> 2] };
        let found = match normalize(&target, &rules) {
            Normalized::Changed(found) | Normalized::Elsewhere(found) => found,
            Normalized::Same => target.clone(),
            Normalized::Refused => continue,
        };
        assert_eq!(found.query(), target.query());
        let path = found.path();
        if !path.starts_with('/') {
            assert_eq!(found, target);
            continue;
        }
        if rules.normalize {
            assert!(!path.contains("/../") && !path.ends_with("/.."), "{target} became {found}");
            assert!(!path.contains("/./") && !path.ends_with("/."), "{target} became {found}");
            assert!(!path.contains('\\'), "{target} became {found}");
        }
        if rules.merge_slashes {
            assert!(!path.contains("//") || path == "//", "{target} became {found}");
        }
        // An escape may have stood for the percent sign of another one.
        let again = Paths { escaped_slashes: EscapedSlashes::Keep, ..rules };
        assert_eq!(normalize(&found, &again), Normalized::Same, "{target} became {found}");
    }
}
