//! What naru does otherwise than Envoy, on purpose: all of it, each with the case that shows it.
//!
//! `docs/equality-with-envoy.md` explains each under its name.

use super::expect_all;
use super::outliers;
use super::play::{Case, Seen};
use super::retries::{ask, case};

/// A difference in one word of what is seen, wherever that comes up.
pub struct Word {
    pub name: &'static str,
    /// Whether `name` of what is seen may differ here.
    pub is_known: fn(word: &str, envoy: &Seen, naru: &Seen) -> bool,
}

pub const WORDS: &[Word] = &[
    Word { name: "An attempt that nobody could make", is_known: no_attempt },
    Word { name: "An answer that breaks off", is_known: broken_off },
];

fn no_attempt(word: &str, envoy: &Seen, naru: &Seen) -> bool {
    let is_so = |seen: &Seen| seen.get("details").is_some_and(|details| details == "no_healthy_upstream");
    matches!(word, "attempts" | "upstream_rq_retry") && is_so(envoy) && is_so(naru)
}

fn broken_off(word: &str, envoy: &Seen, naru: &Seen) -> bool {
    let told =
        |seen: &Seen, word: &str, of: &[&str]| seen.get(word).is_some_and(|told| of.contains(&told.as_str()));
    let begins = |details: &String| details.starts_with("upstream_reset_after_response_started");
    let is_so = [envoy, naru].iter().all(|seen| seen.get("details").is_some_and(begins));
    is_so
        && (word == "details"
            || word == "flags" && told(envoy, "flags", &["UPE", "UR"]) && told(naru, "flags", &["UC"]))
}

/// A difference that a case shows: what both do, step by step, where they differ.
struct Difference {
    name: &'static str,
    case: fn() -> Case,
    seen: &'static str,
}

const TWICE: &str = "retry_on: \"5xx\", num_retries: 2";

const DIFFERENCES: &[Difference] = &[
    Difference {
        name: "What may have acted is not sent again",
        case: || {
            case("unsafe", &[TWICE], vec![ask(0, "POST", "503 503", &[]), ask(0, "PATCH", "reset", &[])])
        },
        seen: r#"
step 0: POST /0 to 0: "503 503" []
  asked: Envoy [0, 1, 2], naru [0]
  attempts: Envoy 3, naru 1
  status: Envoy 200, naru 503
  upstream_rq_retry: Envoy 2, naru none
step 1: PATCH /0 to 0: "reset" []
  asked: Envoy [0, 1], naru [0]
  attempts: Envoy 2, naru 1
  details: Envoy via_upstream, naru upstream_reset_before_response_started{connection_termination}
  flags: Envoy -, naru UC
  status: Envoy 200, naru 503
  upstream_rq_retry: Envoy 1, naru none
"#,
    },
    Difference {
        name: "A retry that could not end in time is not begun",
        case: || {
            let policy = "rate_limited_retry_back_off: { reset_headers: [{ name: retry-after, format: SECONDS }] }, \
                          retry_on: \"5xx\", num_retries: 2";
            let routes = vec![format!("timeout: 0.4s, retry_policy: {{ {policy} }}")];
            Case { routes, ..case("late", &[], vec![ask(0, "GET", "503:retry-after=9", &[])]) }
        },
        seen: r#"
step 0: GET /0 to 0: "503:retry-after=9" []
  details: Envoy response_timeout, naru via_upstream
  flags: Envoy UT, naru -
  status: Envoy 504, naru 503
"#,
    },
    Difference {
        name: "Only the layer nearest to the failure retries",
        case: || {
            let steps = vec![
                ask(0, "GET", "503:x-naru-retries=exhausted", &[]),
                ask(0, "GET", "503", &[("x-naru-attempt", "2")]),
            ];
            case("layers", &[TWICE], steps)
        },
        seen: r#"
step 0: GET /0 to 0: "503:x-naru-retries=exhausted" []
  asked: Envoy [0, 1], naru [0]
  attempts: Envoy 2, naru 1
  status: Envoy 200, naru 503
  upstream_rq_retry: Envoy 1, naru none
step 1: GET /0 to 0: "503" [("x-naru-attempt", "2")]
  asked: Envoy [0, 1], naru [0]
  attempts: Envoy 2, naru 1
  status: Envoy 200, naru 503
  upstream_rq_retry: Envoy 1, naru none
"#,
    },
    Difference {
        name: "A connection that was closed while it waited",
        case: || {
            let steps = vec![ask(0, "GET", "200", &[]), ask(0, "GET", "close", &[])];
            Case {
                endpoints: 1,
                keeps_connections: true,
                ..case("replay", &["retry_on: \"connect-failure\""], steps)
            }
        },
        seen: r#"
step 1: GET /0 to 0: "close" []
  asked: Envoy [0], naru [0, 0]
  attempts: Envoy 1, naru 2
  details: Envoy upstream_reset_before_response_started{connection_termination}, naru via_upstream
  flags: Envoy UC, naru -
  status: Envoy 503, naru 200
"#,
    },
    Difference {
        name: "One that two rates find is ejected once",
        case: outliers::both_rates,
        seen: r#"
step 1: Watch(2) 0
  outlier_detection.ejections_active: Envoy 2, naru 1
  outlier_detection.ejections_enforced_failure_percentage: Envoy 1, naru none
  outlier_detection.ejections_enforced_total: Envoy 2, naru 1
step 2: Watch(2) 1
  outlier_detection.ejections_active: Envoy 2, naru 1
"#,
    },
    Difference {
        name: "Ejections take effect at once",
        case: || {
            let steps =
                [outliers::to(0, &["500"]), outliers::to(1, &["500"]), outliers::to(1, &["200"])].concat();
            let cluster = "common_lb_config: { healthy_panic_threshold: { value: 0 } }\n".to_owned();
            Case {
                cluster,
                ..outliers::case("merged", 3, "consecutive_5xx: 1, max_ejection_percent: 100", steps)
            }
        },
        seen: r#"
step 2: GET /0 to 1: "200" []
  asked: Envoy [1], naru [2]
"#,
    },
    Difference {
        name: "Where all endpoints were tried",
        case: || {
            let previous = "retry_host_predicate: [{ name: p, typed_config: { \"@type\": \
                            type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate } }]";
            let policy = format!("retry_on: \"5xx\", num_retries: 3, {previous}");
            case("all tried", &[&policy], vec![ask(0, "GET", "503 503 503", &[])])
        },
        seen: r#"
step 0: GET /0 to 0: "503 503 503" []
  asked: Envoy [0, 1, 2, 1], naru [0, 1, 2, 2]
"#,
    },
];

#[tokio::test]
async fn what_naru_does_otherwise_is_this_and_nothing_else() {
    let all = DIFFERENCES.iter().map(|known| ((known.case)(), known.seen.trim().to_owned()));
    expect_all(all.collect()).await;
}

#[test]
fn every_difference_is_explained() {
    let page = include_str!("../../../../docs/equality-with-envoy.md");
    let explained: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    let known = DIFFERENCES.iter().map(|known| known.name).chain(WORDS.iter().map(|word| word.name));
    let rates = super::descriptors::DIFFERENCES.into_iter().chain(super::rate_service::DIFFERENCES);
    let identity = super::external::DIFFERENCES.into_iter().chain(rates).chain([super::identity::DIFFERENCE]);
    let known: Vec<&str> = known.chain([super::paths::DIFFERENCE]).chain(identity).collect();
    for name in &known {
        assert!(explained.contains(name), "docs/equality-with-envoy.md has no heading '### {name}'");
    }
    for name in &explained {
        assert!(known.contains(name), "nothing shows '{name}' of docs/equality-with-envoy.md");
    }
}
