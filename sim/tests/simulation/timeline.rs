//! The picture of a transcript.

use naru_base::{ClusterId, EndpointId};
use naru_sim::change::StateChange;
use naru_sim::transcript::Change;
use naru_sim::{Driver, ProxyId, Transcript};

use crate::mesh::play;
use crate::support::{compile, plain};

const YAML: &str = "\
duration: 20s
load:
  - name: clients
    arrivals: { profile: [{ at: 0s, rate: 50/s }, { at: 10s, rate: 300/s, ramp: true }, { at: 15s, rate: 50/s }] }
    requests: [{ path: /, host: a }]
services:
  - name: a
    replicas: 3
    latency: { exponential: { mean: 10ms } }
    during:
      - { name: 'a <b> & \"c\"', from: 4s, to: 9s, replicas: [2], state: down }
      - { from: 12s, replicas: [3], slower: 2x }
";

fn picture() -> Transcript {
    let mut transcript = play(YAML, 1);
    // What proxies will tell of ejections and breakers.
    let told = [
        (5, "10.0.4.2:8080 of <a>", StateChange::Ejected),
        (8, "10.0.4.2:8080 of <a>", StateChange::Returned),
        (6, "breaker of a", StateChange::Opened),
        (7, "breaker of a", StateChange::HalfOpened),
        (9, "breaker of a", StateChange::Closed),
    ];
    for (second, subject, state) in told {
        let subject = subject.to_owned();
        let (at_us, kind) = (second * 1_000_000, state.lane().kind());
        transcript.changes.push(Change {
            at_us,
            kind,
            what: String::new(),
            subject,
            state: Some(state),
            address: None,
        });
    }
    transcript.changes.sort_by_key(|change| change.at_us);
    transcript
}

/// Every element is closed in its turn, every attribute quoted, every special character escaped.
fn check_well_formed(svg: &str) {
    let mut open: Vec<&str> = Vec::new();
    let mut rest = svg;
    while let Some(at) = rest.find('<') {
        let text = &rest[..at];
        assert!(!text.contains('>'), "{text}");
        for entity in text.split('&').skip(1) {
            assert!(["amp;", "lt;", "gt;", "quot;"].iter().any(|name| entity.starts_with(name)), "{entity}");
        }
        let end = at + rest[at..].find('>').expect("a tag has an end");
        let tag = &rest[at + 1..end];
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "{tag}");
            continue;
        }
        let is_empty = tag.ends_with('/');
        let name = tag.split([' ', '/']).next().unwrap();
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
        assert_eq!(tag.matches("=\"").count() * 2, tag.matches('"').count(), "{tag}");
        if !is_empty {
            open.push(name);
        }
    }
    assert!(open.is_empty() && rest.trim().is_empty(), "{open:?} {rest}");
}

#[test]
fn a_timeline_is_well_formed_and_needs_nothing_from_outside() {
    let svg = picture().to_svg();
    check_well_formed(&svg);
    assert!(svg.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\""));
    for foreign in ["<script", "href", "url(", "@import", "onload", "var("] {
        assert!(!svg.contains(foreign), "{foreign}");
    }
    assert!(svg.contains("prefers-color-scheme:dark"));
    check_well_formed(&play("duration: 1s\nload: []\nservices: []\n", 1).to_svg());
}

#[test]
fn a_timeline_has_a_lane_for_everything_that_changed_and_a_word_for_every_state() {
    let svg = picture().to_svg();
    for title in [
        "service a at 10.0.4.2:8080: down from 4.0s to 9.0s",
        "service a at 10.0.4.3:8080: different from 12.0s to ",
        "ejection 10.0.4.2:8080 of &lt;a&gt;: ejected from 5.0s to 8.0s",
        "breaker breaker of a: opened from 6.0s to 7.0s",
        "breaker breaker of a: half_opened from 7.0s to 9.0s",
    ] {
        assert!(svg.contains(title), "{title}\n{svg}");
    }
    for ordinary in ["up from", "returned from", "closed from"] {
        assert!(!svg.contains(ordinary), "{ordinary}");
    }
    for panel in ["load", "under way", "errors", "latency", "changes of state", "p99", "begun"] {
        assert!(svg.contains(&format!(">{panel}<")), "{panel}");
    }
}

#[test]
fn equal_runs_draw_equal_pictures() {
    assert_eq!(picture().to_svg(), picture().to_svg());
    assert_ne!(picture().to_svg(), play(YAML, 2).to_svg());
}

#[test]
fn what_a_policy_notes_is_handed_out_once_in_its_order() {
    let snapshot = compile(plain());
    let mut driver = Driver::new(&snapshot, 1);
    driver.wait(std::time::Duration::from_secs(3)).unwrap();
    let world = driver.world();
    let (cluster, endpoint) = (ClusterId(0), Some(EndpointId(0)));
    world.note(ProxyId(0), cluster, endpoint, StateChange::Ejected);
    world.note(ProxyId(0), cluster, None, StateChange::Opened);
    let noted: Vec<_> = std::iter::from_fn(|| world.next_noted()).collect();
    let noted: Vec<_> = noted.iter().map(|noted| (noted.at.0, noted.endpoint, noted.change)).collect();
    let at = 3_000_000_000;
    assert_eq!(noted, [(at, endpoint, StateChange::Ejected), (at, None, StateChange::Opened)]);
}
