//! A regular expression in RE2's syntax.
//!
//! The first line is the expression, the second a substitution, the others are paths:
//!
//! ```text
//! ^/service/([^/]+)(/.*)$
//! \2/instance/\1
//! /service/foo/v1/api
//! ```

use naru_route::reference::RefTable;
use naru_route::{CompiledAction, Table};
use naru_spec::{
    Action, Domain, Forward, Match, PathMatch, PathRewrite, Pattern, RouteTable, Rule, VirtualHost,
};

use crate::route::{Ask, rule};

/// What the other engine may refuse of a translation: names that only it knows or not, a repetition
/// of nothing but empty quotations, and too much of a good thing.
const LEFT_TO_IT: [&str; 4] =
    ["exceeds", "Unicode property value not found", "Unicode property not found", "missing expression"];

/// An expression compiles, or the refusal says why in RE2's terms; the compiled one matches what the
/// plain one does, and substitutes without losing anything else.
pub fn regex(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut lines = text.split('\n');
    let expression = lines.next().unwrap_or_default();
    let substitution = lines.next().unwrap_or_default();
    let Ok(pattern) = Pattern::new(expression) else { return };
    let block = Match { path: PathMatch::Regex(pattern.clone()), ..Match::default() };
    // A second rule in front, so that both tables have something to choose between.
    let literal = Match { path: PathMatch::Exact("/a".into()), ..Match::default() };
    let mut host = VirtualHost {
        name: "all".into(),
        domains: vec![Domain::Any],
        rules: vec![rule(vec![literal]), rule(vec![block])],
        tls: Default::default(),
        request_headers: Default::default(),
        response_headers: Default::default(),
    };
    let routes = |host: VirtualHost| RouteTable { virtual_hosts: vec![host], ..RouteTable::default() };
    let searched = routes(host.clone());
    match Table::compile(&searched, &|_| None) {
        Ok(table) => {
            let reference = RefTable::new(&searched);
            for path in lines.clone().take(20) {
                let mut ask = Ask::new("a.test", path);
                ask.check(&table, &reference);
            }
        }
        Err(problems) => {
            let [(_, invalid)] = problems.as_slice() else { panic!("{problems:?}") };
            assert!(invalid.message.starts_with("the regular expression '"), "{invalid}");
            // Our own refusals come with a hint; the other engine should find nothing else to refuse.
            let is_its_own = LEFT_TO_IT.iter().any(|what| invalid.message.contains(what));
            assert!(!invalid.hint.is_empty() || is_its_own, "it was translated to nonsense: {invalid}");
        }
    }
    let mut forward = Forward::to("up");
    forward.path = Some(PathRewrite::Regex { pattern, substitution: substitution.to_owned() });
    host.rules = vec![Rule { action: Action::Forward(Box::new(forward)), ..rule(vec![Match::default()]) }];
    if let Ok(table) = Table::compile(&routes(host), &|_| None) {
        rewrites(&table, substitution, lines);
    }
}

fn rewrites<'a>(table: &Table, substitution: &str, paths: impl Iterator<Item = &'a str>) {
    let (_, rule) = table.rules().next().expect("a rule");
    let CompiledAction::Forward(forward) = &rule.action else { panic!("it forwards") };
    for path in paths.filter(|path| path.starts_with('/')).take(20) {
        let Some(rewritten) = forward.rewrite_target(path, Some("a=1"), 1) else { continue };
        assert!(rewritten.ends_with("?a=1"), "the query is lost: {rewritten}");
        if !substitution.contains('\\') {
            // Every match may become one substitution, and there is at most one more than bytes; and a
            // path begins with a slash.
            let longest = path.len() + substitution.len() * (path.len() + 1) + "/?a=1".len();
            assert!(rewritten.len() <= longest, "{rewritten}");
        }
    }
}
