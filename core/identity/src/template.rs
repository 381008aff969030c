//! Paths with wildcards: `*` is a segment, `**` at the end is all that follows. Envoy's `uri_template`.

use naru_spec::Invalid;

/// A path, segment by segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template {
    segments: Box<[Segment]>,
    /// Whatever follows its last segment, be it nothing.
    takes_rest: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Exact(String),
    /// At least one letter.
    One,
}

/// Whether Istio takes a path for a template: `{*}` or `{**}`.
pub fn is_template(path: &str) -> bool {
    path.contains("{*}") || path.contains("{**}")
}

impl Template {
    pub fn parse(text: &str) -> Result<Template, Invalid> {
        let wrong = |why: &str| {
            let message = format!("'{text}' is no template of paths: {why}");
            Err(Invalid::new(message).hint("a whole segment is *, the last one may be **"))
        };
        let Some(rest) = text.strip_prefix('/') else { return wrong("it begins with /") };
        let mut segments = Vec::new();
        let mut takes_rest = false;
        for segment in rest.split('/') {
            if takes_rest {
                return wrong("nothing follows **");
            }
            match segment {
                "*" => segments.push(Segment::One),
                "**" => takes_rest = true,
                exact if exact.contains(['*', '{', '}']) => {
                    return wrong("a wildcard stands for a whole segment");
                }
                exact => segments.push(Segment::Exact(exact.to_owned())),
            }
        }
        Ok(Template { segments: segments.into(), takes_rest })
    }

    pub fn is_match(&self, path: &str) -> bool {
        let Some(rest) = path.strip_prefix('/') else { return false };
        let mut parts = rest.split('/');
        for segment in &self.segments {
            let Some(part) = parts.next() else { return false };
            let fits = match segment {
                Segment::Exact(exact) => part == exact,
                Segment::One => !part.is_empty(),
            };
            if !fits {
                return false;
            }
        }
        // What follows begins behind a slash.
        if self.takes_rest { parts.next().is_some() } else { parts.next().is_none() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(template: &str, path: &str, expected: bool) {
        assert_eq!(Template::parse(template).unwrap().is_match(path), expected, "{template} {path}");
    }

    #[test]
    fn a_star_is_one_segment_and_two_are_all_that_follow() {
        check("/a/*/c", "/a/b/c", true);
        check("/a/*/c", "/a//c", false);
        check("/a/*/c", "/a/b/b/c", false);
        check("/a/*/c", "/a/b/c/", false);
        check("/a/**", "/a/", true);
        check("/a/**", "/a/b/c", true);
        check("/a/**", "/a", false);
        check("/a/**", "/ab", false);
        check("/**", "/", true);
        check("/*", "/", false);
        check("/*/**", "/x/", true);
        check("/a", "/a", true);
        check("/a", "a", false);
    }

    #[test]
    fn what_is_no_template_is_told() {
        for text in ["", "a", "/**/a", "/a*", "/{x}", "/a/***"] {
            assert!(Template::parse(text).is_err(), "{text}");
        }
    }
}
