//! Envoy's "xDS REST and gRPC protocol", case by case.

mod walk;

use std::sync::Arc;
use std::time::Duration;

use naru_base::Instant;
use naru_xds::discovery::Kind::{self, Cluster, Endpoints, Listener, Routes};

use super::{Asked, Mode, NAMES_MAX, PATIENCE, Response, Stream, TooMuch, Wish};
use crate::set::{Shelf, View};

const T0: Instant = Instant(1_000_000_000);

/// A kind, a name and what it says.
fn view(resources: &[(Kind, &str, &str)]) -> Arc<View> {
    let said =
        resources.iter().map(|(kind, name, text)| (*kind, (*name).to_owned(), text.as_bytes().to_vec()));
    Arc::new(Shelf::default().view(said, None))
}

fn request(kind: Kind, nonce: &str, wish: Wish) -> Asked {
    Asked { kind, nonce: nonce.to_owned(), error: None, wish }
}

fn all(kind: Kind, nonce: &str, names: &[&str]) -> Asked {
    request(kind, nonce, Wish::All(names.iter().map(|name| (*name).to_owned()).collect()))
}

fn change(kind: Kind, nonce: &str, subscribe: &[&str], unsubscribe: &[&str]) -> Asked {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let (subscribe, unsubscribe) = (owned(subscribe), owned(unsubscribe));
    request(kind, nonce, Wish::Change { subscribe, unsubscribe, known: Vec::new() })
}

/// What is sent next, in words: `clusters a b -c`.
fn next(stream: &mut Stream) -> Option<String> {
    stream.next(T0).map(|response| words(&response))
}

fn words(response: &Response) -> String {
    let there = response.resources.iter().map(|(name, _)| name.to_string());
    let gone = response.removed.iter().map(|name| format!("-{name}"));
    let names: Vec<String> = there.chain(gone).collect();
    format!("{} {}", response.kind.name(), names.join(" ")).trim().to_owned()
}

/// Asks, and says all that is sent then.
fn ask(stream: &mut Stream, asked: Asked) -> Vec<String> {
    stream.on_request(T0, asked).unwrap();
    sent(stream)
}

fn sent(stream: &mut Stream) -> Vec<String> {
    std::iter::from_fn(|| next(stream)).collect()
}

const NONE: [&str; 0] = [];

/// The table of "How the client specifies what resources to return", state of the world.
#[test]
fn names_of_the_state_of_the_world() {
    let there = view(&[(Cluster, "a", "1"), (Cluster, "b", "1")]);
    // Each step: names that are asked for, and what is answered.
    let check = |steps: &[(&[&str], Option<&str>)]| {
        let mut stream = Stream::new(Mode::StateOfTheWorld, Arc::clone(&there));
        let mut nonce = 0;
        for (names, expected) in steps {
            let said = if nonce == 0 { String::new() } else { nonce.to_string() };
            let answers = ask(&mut stream, all(Cluster, &said, names));
            assert_eq!(answers, expected.iter().copied().collect::<Vec<&str>>(), "{names:?} of {steps:?}");
            nonce += answers.len();
        }
    };
    // Nothing named ever: everything. Once something was named, nothing is nothing.
    check(&[(&[], Some("clusters a b")), (&[], None)]);
    check(&[(&["*"], Some("clusters a b")), (&["*"], None)]);
    check(&[(&[], Some("clusters a b")), (&["*", "a"], Some("clusters a b"))]);
    check(&[
        (&[], Some("clusters a b")),
        (&["*", "a"], Some("clusters a b")),
        (&["a"], Some("clusters a")),
        (&[], Some("clusters")),
    ]);
    check(&[(&["a"], Some("clusters a")), (&["a", "b"], Some("clusters a b")), (&["b"], Some("clusters b"))]);
    check(&[(&["c"], Some("clusters"))]);
}

#[test]
fn other_kinds_are_sent_what_is_new_of_them() {
    let there = view(&[(Endpoints, "a", "1"), (Endpoints, "b", "1")]);
    let mut stream = Stream::new(Mode::StateOfTheWorld, there);
    assert_eq!(ask(&mut stream, all(Endpoints, "", &[])), NONE, "nothing is nothing here");
    assert_eq!(ask(&mut stream, all(Endpoints, "", &["a"])), ["endpoints a"]);
    assert_eq!(ask(&mut stream, all(Endpoints, "1", &["a", "b", "c"])), ["endpoints b"]);
    assert_eq!(ask(&mut stream, all(Endpoints, "2", &["a", "b", "c"])), NONE);
    stream.on_view(view(&[(Endpoints, "a", "1"), (Endpoints, "b", "2"), (Endpoints, "c", "1")]));
    assert_eq!(sent(&mut stream), ["endpoints b c"]);
    // Who has left it has it no more.
    assert_eq!(ask(&mut stream, all(Endpoints, "3", &["b"])), NONE);
    assert_eq!(ask(&mut stream, all(Endpoints, "3", &["a", "b"])), ["endpoints a"]);
}

/// The same table for delta.
#[test]
fn names_of_delta() {
    let there = view(&[(Cluster, "a", "1"), (Cluster, "b", "1")]);
    type Step<'a> = (&'a [&'a str], &'a [&'a str], Option<&'a str>);
    let check = |steps: &[Step<'_>]| {
        let mut stream = Stream::new(Mode::Delta, Arc::clone(&there));
        let mut nonce = 0;
        for (subscribe, unsubscribe, expected) in steps {
            let said = if nonce == 0 { String::new() } else { nonce.to_string() };
            let answers = ask(&mut stream, change(Cluster, &said, subscribe, unsubscribe));
            assert_eq!(
                answers,
                expected.iter().copied().collect::<Vec<&str>>(),
                "{subscribe:?} of {steps:?}"
            );
            nonce += answers.len();
        }
    };
    check(&[(&[], &[], Some("clusters a b")), (&[], &[], None)]);
    check(&[(&["*"], &[], Some("clusters a b"))]);
    // What is asked for beside everything is sent once more, and stays when everything is not wanted any more.
    check(&[(&[], &[], Some("clusters a b")), (&["a"], &[], Some("clusters a")), (&[], &["*"], None)]);
    check(&[(&["a"], &[], Some("clusters a")), (&["*"], &[], Some("clusters b"))]);
    check(&[(&["a"], &[], Some("clusters a")), (&[], &["a"], None), (&["a"], &[], Some("clusters a"))]);
    // What is not there is said to be gone, once.
    check(&[(&["c", "a"], &[], Some("clusters a")), (&[], &[], Some("clusters -c")), (&[], &[], None)]);
}

#[test]
fn delta_sends_what_has_changed_and_knows_what_a_proxy_has() {
    let mut stream = Stream::new(Mode::Delta, view(&[(Routes, "a", "1"), (Routes, "b", "1")]));
    assert_eq!(ask(&mut stream, change(Routes, "", &["a", "b"], &[])), ["routes a b"]);
    ask(&mut stream, change(Routes, "1", &[], &[]));
    let later = view(&[(Routes, "a", "2"), (Routes, "b", "1"), (Routes, "c", "1")]);
    stream.on_view(Arc::clone(&later));
    assert_eq!(sent(&mut stream), ["routes a"]);
    ask(&mut stream, change(Routes, "2", &[], &[]));
    stream.on_view(view(&[(Routes, "a", "2")]));
    assert_eq!(sent(&mut stream), ["routes -b"]);

    // On another stream it says what it has.
    let version = |name: &str| format!("{:016x}", later.set(Routes).get(name).unwrap().version);
    let known = vec![
        ("a".to_owned(), version("a")),
        ("b".to_owned(), "of somebody else".to_owned()),
        ("gone".to_owned(), version("a")),
        ("unwanted".to_owned(), version("a")),
    ];
    let subscribe = ["a", "b", "gone"].map(str::to_owned).to_vec();
    let mut stream = Stream::new(Mode::Delta, later);
    let asked = request(Routes, "", Wish::Change { subscribe, unsubscribe: Vec::new(), known });
    assert_eq!(ask(&mut stream, asked), ["routes b -gone"]);
}

#[test]
fn what_is_not_answered_holds_back_its_kind_only() {
    let mut stream = Stream::new(Mode::Delta, view(&[(Endpoints, "a", "1"), (Routes, "r", "1")]));
    assert_eq!(ask(&mut stream, change(Routes, "", &["r"], &[])), ["routes r"]);
    for text in ["2", "3", "4"] {
        stream.on_view(view(&[(Endpoints, "a", "1"), (Routes, "r", text)]));
        assert_eq!(sent(&mut stream), NONE);
    }
    assert_eq!(ask(&mut stream, change(Endpoints, "", &["a"], &[])), ["endpoints a"]);
    // Versions between are never sent.
    assert_eq!(ask(&mut stream, change(Endpoints, "2", &[], &[])), NONE);
    assert_eq!(ask(&mut stream, change(Routes, "1", &[], &[])), ["routes r"]);
    assert_eq!(ask(&mut stream, change(Routes, "3", &[], &[])), NONE);
    assert!(stream.standings().iter().all(|standing| standing.is_current));
}

#[test]
fn an_old_or_invented_nonce_answers_nothing() {
    for mode in [Mode::StateOfTheWorld, Mode::Delta] {
        let mut stream = Stream::new(mode, view(&[(Listener, "l", "1")]));
        let wish = |nonce: &str| match mode {
            Mode::StateOfTheWorld => all(Listener, nonce, &[]),
            Mode::Delta => change(Listener, nonce, &[], &[]),
        };
        // Whoever begins has nothing to answer, whatever he says.
        assert_eq!(ask(&mut stream, wish("77")), ["listeners l"]);
        for nonce in ["0", "2", "x", "18446744073709551616"] {
            assert_eq!(ask(&mut stream, wish(nonce)), NONE);
        }
        let standing = &stream.standings()[0];
        assert_eq!((standing.stale, standing.accepted, standing.is_current), (4, None, false));
        ask(&mut stream, wish("1"));
        let standing = &stream.standings()[0];
        assert!(standing.is_current && standing.accepted == Some((standing.wanted, T0)));
    }
}

#[test]
fn of_the_state_of_the_world_a_stale_request_wants_nothing() {
    let mut stream = Stream::new(Mode::StateOfTheWorld, view(&[(Cluster, "a", "1"), (Cluster, "b", "1")]));
    assert_eq!(ask(&mut stream, all(Cluster, "", &["a"])), ["clusters a"]);
    stream.on_view(view(&[(Cluster, "a", "2"), (Cluster, "b", "1")]));
    assert_eq!(ask(&mut stream, all(Cluster, "1", &["a"])), ["clusters a"]);
    assert_eq!(ask(&mut stream, all(Cluster, "1", &["a", "b"])), NONE);
    assert_eq!(ask(&mut stream, all(Cluster, "2", &["a", "b"])), ["clusters a b"]);
}

#[test]
fn a_refusal_is_kept_with_its_reason_until_something_else_is_accepted() {
    let mut stream = Stream::new(Mode::StateOfTheWorld, view(&[(Cluster, "a", "bad")]));
    ask(&mut stream, all(Cluster, "", &[]));
    let refuse = |nonce: &str| Asked { error: Some("é".repeat(2_000)), ..all(Cluster, nonce, &[]) };
    assert_eq!(ask(&mut stream, refuse("1")), NONE, "what was refused is not sent again");
    let refused = stream.standings()[0].refused.clone().unwrap();
    assert_eq!(refused.reason, "é".repeat(1_000), "a reason is of bounded length");
    // Another request is no consent.
    assert_eq!(ask(&mut stream, all(Cluster, "1", &[])), NONE);
    assert!(stream.standings()[0].refused.is_some());
    stream.on_view(view(&[(Cluster, "a", "good")]));
    assert_eq!(sent(&mut stream), ["clusters a"]);
    ask(&mut stream, all(Cluster, "2", &[]));
    assert_eq!(stream.standings()[0].refused, None);
}

#[test]
fn what_was_refused_and_is_gone_from_the_documents_holds_nothing_back() {
    for mode in [Mode::StateOfTheWorld, Mode::Delta] {
        let mut stream = begin(mode, of_a());
        let wish = |kind, nonce: &str, names: &[&str]| match mode {
            Mode::StateOfTheWorld => all(kind, nonce, names),
            Mode::Delta => change(kind, nonce, &[], &[]),
        };
        let mut bad =
            vec![(Cluster, "a", "1"), (Endpoints, "a", "1"), (Listener, "l", "1"), (Routes, "r", "2")];
        bad.extend([(Cluster, "x", "bad"), (Endpoints, "x", "1")]);
        stream.on_view(view(&bad));
        assert_eq!(sent(&mut stream).len(), 1);
        let refused = Asked { error: Some("no".to_owned()), ..wish(Cluster, "5", &[]) };
        assert_eq!(ask(&mut stream, refused), NONE);
        stream.on_view(view(&bad[..4]));
        let mut said = sent(&mut stream);
        if mode == Mode::StateOfTheWorld {
            // It says everything once more, and is believed what it says then.
            assert_eq!(said, ["clusters a", "endpoints a"]);
            assert_eq!(ask(&mut stream, wish(Cluster, "6", &[])), NONE);
            said = ask(&mut stream, wish(Endpoints, "7", &["a"]));
        }
        assert_eq!(said, ["routes r"], "{mode:?}");
    }
}

/// All kinds, the way that Envoy asks for them.
fn begin(mode: Mode, view: Arc<View>) -> Stream {
    let mut stream = Stream::new(mode, view);
    let wish = |kind, nonce: &str, names: &[&str]| match mode {
        Mode::StateOfTheWorld => all(kind, nonce, names),
        Mode::Delta => change(kind, nonce, names, &[]),
    };
    let mut asked = |kind, nonce: &str, names: &[&str]| ask(&mut stream, wish(kind, nonce, names));
    assert_eq!(asked(Cluster, "", &[]), ["clusters a"]);
    assert_eq!(asked(Cluster, "1", &[]), NONE);
    assert_eq!(asked(Endpoints, "", &["a"]), ["endpoints a"]);
    assert_eq!(asked(Listener, "", &[]), NONE, "endpoints are not answered yet");
    assert_eq!(asked(Endpoints, "2", if mode == Mode::Delta { &[] } else { &["a"] }), ["listeners l"]);
    assert_eq!(asked(Listener, "3", &[]), NONE);
    assert_eq!(asked(Routes, "", &["r"]), ["routes r"]);
    assert_eq!(asked(Routes, "4", if mode == Mode::Delta { &[] } else { &["r"] }), NONE);
    stream
}

fn of_a() -> Arc<View> {
    view(&[(Cluster, "a", "1"), (Endpoints, "a", "1"), (Listener, "l", "1"), (Routes, "r", "a")])
}

fn of_b() -> Arc<View> {
    view(&[(Cluster, "b", "1"), (Endpoints, "b", "1"), (Listener, "l", "1"), (Routes, "r", "b")])
}

#[test]
fn what_is_new_comes_before_what_leads_to_it_and_what_is_gone_goes_after() {
    let mut stream = begin(Mode::StateOfTheWorld, of_a());
    stream.on_view(of_b());
    // The old cluster stays for as long as routes may lead to it.
    assert_eq!(sent(&mut stream), ["clusters b a"]);
    assert_eq!(ask(&mut stream, all(Cluster, "5", &[])), NONE, "the new endpoints were not asked for yet");
    assert_eq!(ask(&mut stream, all(Endpoints, "2", &["a", "b"])), ["endpoints b"]);
    assert_eq!(ask(&mut stream, all(Endpoints, "6", &["a", "b"])), ["routes r"]);
    assert_eq!(ask(&mut stream, all(Routes, "7", &["r"])), ["clusters b"]);
    assert_eq!(ask(&mut stream, all(Cluster, "8", &[])), NONE);
    assert_eq!(ask(&mut stream, all(Endpoints, "6", &["b"])), NONE);
    assert!(stream.standings().iter().all(|standing| standing.is_current));

    let mut stream = begin(Mode::Delta, of_a());
    stream.on_view(of_b());
    assert_eq!(sent(&mut stream), ["clusters b"]);
    assert_eq!(ask(&mut stream, change(Cluster, "5", &[], &[])), NONE);
    assert_eq!(ask(&mut stream, change(Endpoints, "", &["b"], &[])), ["endpoints b"]);
    assert_eq!(ask(&mut stream, change(Endpoints, "6", &[], &[])), ["routes r"]);
    assert_eq!(ask(&mut stream, change(Routes, "7", &[], &[])), ["endpoints -a", "clusters -a"]);
    ask(&mut stream, change(Endpoints, "8", &[], &["a"]));
    ask(&mut stream, change(Cluster, "9", &[], &[]));
    assert!(stream.standings().iter().all(|standing| standing.is_current));
}

#[test]
fn a_proxy_that_refuses_routes_keeps_the_clusters_that_they_lead_to() {
    let mut stream = begin(Mode::Delta, of_a());
    stream.on_view(of_b());
    sent(&mut stream);
    ask(&mut stream, change(Cluster, "5", &[], &[]));
    ask(&mut stream, change(Endpoints, "", &["b"], &[]));
    assert_eq!(ask(&mut stream, change(Endpoints, "6", &[], &[])), ["routes r"]);
    let refused = Asked { error: Some("no".to_owned()), ..change(Routes, "7", &[], &[]) };
    assert_eq!(ask(&mut stream, refused), NONE, "the cluster a is still there");
    // Back to where it was: nothing is left to be taken away but what was new.
    stream.on_view(of_a());
    // Endpoints follow their cluster.
    assert_eq!(sent(&mut stream), ["clusters a", "endpoints a"]);
    assert_eq!(ask(&mut stream, change(Cluster, "8", &[], &[])), NONE);
    assert_eq!(ask(&mut stream, change(Endpoints, "9", &[], &[])), ["routes r"]);
    assert_eq!(ask(&mut stream, change(Routes, "10", &[], &[])), ["endpoints -b", "clusters -b"]);
}

#[test]
fn a_proxy_that_refuses_clusters_keeps_its_routes() {
    let mut stream = begin(Mode::Delta, of_a());
    stream.on_view(of_b());
    sent(&mut stream);
    let refused = Asked { error: Some("no".to_owned()), ..change(Cluster, "5", &[], &[]) };
    assert_eq!(ask(&mut stream, refused), NONE);
    // Its endpoints still follow.
    stream.on_view(view(&[
        (Cluster, "b", "1"),
        (Endpoints, "a", "2"),
        (Endpoints, "b", "1"),
        (Listener, "l", "2"),
        (Routes, "r", "b"),
    ]));
    assert_eq!(sent(&mut stream), ["endpoints a"]);
    // A proxy that has nothing yet is sent what there is: it cannot become worse.
    let mut stream = Stream::new(Mode::Delta, of_a());
    ask(&mut stream, change(Cluster, "", &[], &[]));
    ask(&mut stream, Asked { error: Some("no".to_owned()), ..change(Cluster, "1", &[], &[]) });
    assert_eq!(ask(&mut stream, change(Listener, "", &[], &[])), ["listeners l"]);
}

/// Envoy answers clusters once they are warm.
#[test]
fn endpoints_do_not_wait_for_an_answer_to_clusters() {
    let mut stream = Stream::new(Mode::Delta, of_a());
    assert_eq!(ask(&mut stream, change(Cluster, "", &[], &[])), ["clusters a"]);
    assert_eq!(ask(&mut stream, change(Endpoints, "", &["a"], &[])), ["endpoints a"]);
    assert_eq!(ask(&mut stream, change(Listener, "", &[], &[])), NONE);
    assert_eq!(ask(&mut stream, change(Endpoints, "2", &[], &[])), NONE);
    assert_eq!(ask(&mut stream, change(Cluster, "1", &[], &[])), ["listeners l"]);
}

#[test]
fn a_cluster_that_changes_has_its_endpoints_sent_again() {
    let mut stream = begin(Mode::StateOfTheWorld, of_a());
    let changed = [(Cluster, "a", "2"), (Endpoints, "a", "1"), (Listener, "l", "1"), (Routes, "r", "a")];
    stream.on_view(view(&changed));
    assert_eq!(sent(&mut stream), ["clusters a", "endpoints a"]);
    assert_eq!(ask(&mut stream, all(Cluster, "5", &[])), NONE);
}

#[test]
fn a_proxy_that_does_not_answer_is_waited_for_and_then_not() {
    let mut stream = begin(Mode::Delta, of_a());
    stream.on_view(of_b());
    assert_eq!(sent(&mut stream), ["clusters b"]);
    assert_eq!(stream.deadline(T0), Some(T0 + PATIENCE));
    assert_eq!(stream.next(T0 + PATIENCE - Duration::from_millis(1)), None);
    let late = stream.next(T0 + PATIENCE).unwrap();
    assert_eq!(words(&late), "routes r");
    assert_eq!(stream.next(T0 + PATIENCE * 100), None, "and no more without an answer");
    assert_eq!(stream.standings()[0].unanswered_since, Some(T0));
}

#[test]
fn a_proxy_that_never_asks_for_endpoints_has_its_listeners_a_little_later() {
    let mut stream = Stream::new(Mode::Delta, of_a());
    ask(&mut stream, change(Cluster, "", &[], &[]));
    ask(&mut stream, change(Cluster, "1", &[], &[]));
    assert_eq!(ask(&mut stream, change(Listener, "", &[], &[])), NONE);
    assert_eq!(stream.deadline(T0), Some(T0 + PATIENCE));
    assert_eq!(words(&stream.next(T0 + PATIENCE).unwrap()), "listeners l");
}

#[test]
fn nobody_may_ask_for_more_names_than_there_can_be() {
    let names: Vec<String> = (0..=NAMES_MAX).map(|at| at.to_string()).collect();
    let mut stream = Stream::new(Mode::StateOfTheWorld, of_a());
    let asked = request(Endpoints, "", Wish::All(names.clone()));
    assert_eq!(stream.on_request(T0, asked), Err(TooMuch));
    let mut stream = Stream::new(Mode::Delta, of_a());
    let wish = |subscribe: &[String]| Wish::Change {
        subscribe: subscribe.to_vec(),
        unsubscribe: Vec::new(),
        known: Vec::new(),
    };
    assert_eq!(stream.on_request(T0, request(Endpoints, "", wish(&names[1..]))), Ok(()));
    assert_eq!(stream.on_request(T0, request(Endpoints, "", wish(&names[..1]))), Err(TooMuch));
}

#[test]
fn virtual_hosts_are_asked_for_by_the_routes_that_they_are_of() {
    let there =
        [(Kind::VirtualHost, "r/a", "1"), (Kind::VirtualHost, "r/b", "1"), (Kind::VirtualHost, "s/a", "1")];
    let mut stream = Stream::new(Mode::Delta, view(&there));
    // There is none with the name of the table: so it is known that these are all.
    assert_eq!(ask(&mut stream, change(Kind::VirtualHost, "", &["r"], &[])), ["virtual hosts r/a r/b -r"]);
    ask(&mut stream, change(Kind::VirtualHost, "1", &[], &[]));
    let later = [(Kind::VirtualHost, "r/a", "2"), (Kind::VirtualHost, "s/a", "2")];
    stream.on_view(view(&later));
    assert_eq!(sent(&mut stream), ["virtual hosts r/a -r/b"]);
}
