//! A table of routes, and requests to it, in lines of words:
//!
//! ```text
//! host a.test *.test      a virtual host, with its domains
//! tls all                 it requires TLS (all, external)
//! rule                    a rule of it
//! block segment /a        a block of the rule (exact, prefix, segment, regex)
//! case                    its path ignores case
//! method is GET           tests: is, begins, ends, has, matches; Is, Begins.. ignore case
//! scheme, authority       likewise
//! header x-a not is 1     present, absent, range -5 17, or a test; `not` and `empty` before it
//! query a is 1            any, or a test; `not` before it
//! cookie a any            likewise
//! source 10.0.0.0/8
//! fraction 50
//! grpc
//! ask a.test /a?b=1       a request: authority and target, then more about it:
//! by POST                 method
//! with x-a: 1             header
//! from 10.0.0.1           client
//! over https              scheme
//! draw 77
//! ```

use std::net::{IpAddr, Ipv4Addr};

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use naru_base::Fraction;
use naru_base::share::Denominator;
use naru_route::reference::{Decision, RefTable};
use naru_route::{Observer, Outcome, RuleId, Subject, Table, Verdict};
use naru_spec::{
    Action, DirectResponse, Domain, HeaderMatch, HeaderOps, HeaderTest, Match, NameMatch, PathMatch, Pattern,
    RouteTable, Rule, Scheme, StringMatch, TlsRequirement, ValueTest, VirtualHost,
};

/// The compiled table decides as the reference does, and finds no fault where that finds none.
pub fn route(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (routes, mut asked) = read(text);
    let table = match Table::compile(&routes, &|_| None) {
        Ok(table) => table,
        Err(problems) => {
            for (place, invalid) in &problems {
                let host = &routes.virtual_hosts[place.virtual_host];
                assert!(place.rule.is_none_or(|rule| rule < host.rules.len()), "{place:?}");
                assert!(!invalid.message.is_empty());
            }
            return;
        }
    };
    let reference = RefTable::new(&routes);
    for ask in &mut asked {
        ask.check(&table, &reference);
    }
}

/// A request.
#[derive(Clone, Debug)]
pub struct Ask {
    method: Method,
    authority: String,
    path: String,
    query: Option<String>,
    scheme: Scheme,
    headers: HeaderMap,
    source: IpAddr,
    draw: u64,
}

impl Ask {
    pub fn new(authority: &str, target: &str) -> Ask {
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (target, None),
        };
        Ask {
            method: Method::GET,
            authority: authority.to_owned(),
            path: path.to_owned(),
            query,
            scheme: Scheme::Http,
            headers: HeaderMap::new(),
            source: IpAddr::V4(Ipv4Addr::LOCALHOST),
            draw: 0,
        }
    }

    /// Whether the client is internal decides nothing where no host asks for TLS.
    pub fn check(&mut self, table: &Table, reference: &RefTable<'_>) {
        for is_internal in [false, true] {
            let subject = Subject {
                method: &self.method,
                authority: &self.authority,
                path: &self.path,
                query: self.query.as_deref(),
                scheme: self.scheme,
                headers: &self.headers,
                source: self.source,
                is_internal,
                draw: self.draw,
                claims: None,
            };
            let expected = reference.find(&subject);
            let mut seen = Seen::default();
            let found = table.find(&subject, &mut seen);
            assert_eq!(found, expected, "{subject:#?}\n{:#?}", reference.explain(&subject));
            assert_eq!(table.find(&subject, &mut ()), expected, "unobserved it decides otherwise");
            let explained = reference.explain(&subject);
            let matched = explained.iter().find(|block| block.decided_by == Decision::Matched);
            let taken = if let Verdict::Rule { rule, .. } = expected { Some(rule) } else { None };
            assert_eq!(matched.map(|block| block.rule), taken);
            assert_eq!(seen.first, taken);
        }
    }
}

/// The first rule that an observer saw match.
#[derive(Default)]
struct Seen {
    first: Option<RuleId>,
}

impl Observer for Seen {
    fn considered(&mut self, rule: RuleId, _block: usize, outcome: Outcome) {
        if outcome == Outcome::Matched {
            self.first = Some(self.first.map_or(rule, |first| first.min(rule)));
        }
    }
}

/// A rule for these blocks.
pub fn rule(matches: Vec<Match>) -> Rule {
    let direct = DirectResponse { status: http::StatusCode::OK, body: Vec::new() };
    Rule {
        gate: Vec::new(),
        name: String::new(),
        origin: String::new(),
        matches,
        action: Action::Direct(Box::new(direct)),
        request_headers: HeaderOps::default(),
        response_headers: HeaderOps::default(),
    }
}

/// Lines that say nothing, or nothing that could be in a table, are left out.
fn read(text: &str) -> (RouteTable, Vec<Ask>) {
    let mut reader = Reader::default();
    for line in text.split('\n').take(200) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let _ = reader.line(word, rest);
    }
    (reader.routes, reader.asked)
}

#[derive(Default)]
struct Reader {
    routes: RouteTable,
    asked: Vec<Ask>,
}

impl Reader {
    fn line(&mut self, word: &str, rest: &str) -> Option<()> {
        match word {
            "host" => self.host(rest),
            "tls" => {
                let tls = if rest == "all" { TlsRequirement::All } else { TlsRequirement::ExternalOnly };
                self.routes.virtual_hosts.last_mut()?.tls = tls;
            }
            "rule" => self.routes.virtual_hosts.last_mut()?.rules.push(rule(Vec::new())),
            "block" => {
                let path = path_match(rest)?;
                let rule = self.routes.virtual_hosts.last_mut()?.rules.last_mut()?;
                rule.matches.push(Match { path, ..Match::default() });
            }
            "ask" => {
                let (authority, target) = rest.split_once(' ').unwrap_or((rest, "/"));
                self.asked.push(Ask::new(authority, target));
            }
            "by" => self.asked.last_mut()?.method = Method::from_bytes(rest.as_bytes()).ok()?,
            "with" => {
                let (name, value) = rest.split_once(": ")?;
                let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
                let value = HeaderValue::from_bytes(value.as_bytes()).ok()?;
                self.asked.last_mut()?.headers.append(name, value);
            }
            "from" => self.asked.last_mut()?.source = rest.parse().ok()?,
            "over" => self.asked.last_mut()?.scheme = Scheme::Https,
            "draw" => self.asked.last_mut()?.draw = rest.parse().ok()?,
            condition => {
                let rule = self.routes.virtual_hosts.last_mut()?.rules.last_mut()?;
                add_condition(rule.matches.last_mut()?, condition, rest)?;
            }
        }
        Some(())
    }

    fn host(&mut self, domains: &str) {
        let domains = domains.split(' ').filter_map(|domain| Domain::parse(domain).ok()).collect();
        self.routes.virtual_hosts.push(VirtualHost {
            name: format!("host {}", self.routes.virtual_hosts.len()),
            domains,
            rules: Vec::new(),
            tls: TlsRequirement::None,
            request_headers: HeaderOps::default(),
            response_headers: HeaderOps::default(),
        });
    }
}

fn path_match(words: &str) -> Option<PathMatch> {
    let (kind, path) = words.split_once(' ').unwrap_or((words, ""));
    Some(match kind {
        "exact" => PathMatch::Exact(path.to_owned()),
        "prefix" => PathMatch::Prefix(path.to_owned()),
        "segment" => PathMatch::SegmentPrefix(path.trim_end_matches('/').to_owned()),
        "regex" => PathMatch::Regex(Pattern::new(path).ok()?),
        _ => return None,
    })
}

fn add_condition(block: &mut Match, word: &str, rest: &str) -> Option<()> {
    match word {
        "case" => block.ignore_path_case = true,
        "method" => block.method = Some(text_match(rest)?),
        "scheme" => block.scheme = Some(text_match(rest)?),
        "authority" => block.authority = Some(text_match(rest)?),
        "header" => block.headers.push(header_match(rest)?),
        "query" => block.query.push(name_match(rest)?),
        "cookie" => block.cookies.push(name_match(rest)?),
        "source" => block.sources.push(rest.parse().ok()?),
        "fraction" => {
            let share = rest.parse().ok().filter(|share| *share <= 100)?;
            block.fraction = Some(Fraction::new(share, Denominator::Hundred));
        }
        "grpc" => block.grpc = true,
        _ => return None,
    }
    Some(())
}

fn text_match(words: &str) -> Option<StringMatch> {
    let (kind, value) = words.split_once(' ').unwrap_or((words, ""));
    let test = match kind.to_ascii_lowercase().as_str() {
        "is" => ValueTest::Exact(value.to_owned()),
        "begins" => ValueTest::Prefix(value.to_owned()),
        "ends" => ValueTest::Suffix(value.to_owned()),
        "has" => ValueTest::Contains(value.to_owned()),
        "matches" => ValueTest::Regex(Pattern::new(value).ok()?),
        _ => return None,
    };
    let ignore_case = kind.starts_with(|c: char| c.is_ascii_uppercase());
    Some(StringMatch { test, ignore_case })
}

fn header_match(words: &str) -> Option<HeaderMatch> {
    let (name, words) = words.split_once(' ')?;
    let (invert, words) = flag(words, "not ");
    let (missing_as_empty, words) = flag(words, "empty ");
    let test = match words {
        "present" => HeaderTest::Present(true),
        "absent" => HeaderTest::Present(false),
        words => match words.strip_prefix("range ") {
            Some(range) => {
                let (start, end) = range.split_once(' ')?;
                HeaderTest::Range { start: start.parse().ok()?, end: end.parse().ok()? }
            }
            None => HeaderTest::Value(text_match(words)?),
        },
    };
    Some(HeaderMatch { name: HeaderName::from_bytes(name.as_bytes()).ok()?, test, invert, missing_as_empty })
}

fn name_match(words: &str) -> Option<NameMatch> {
    let (name, words) = words.split_once(' ')?;
    let (invert, words) = flag(words, "not ");
    let test = if words == "any" { None } else { Some(text_match(words)?) };
    Some(NameMatch { name: name.to_owned(), test, invert })
}

fn flag<'a>(words: &'a str, flag: &str) -> (bool, &'a str) {
    words.strip_prefix(flag).map_or((false, words), |rest| (true, rest))
}
