//! The tables against the reference, on random tables and requests whose parts collide often.
//!
//! A failure prints its seed; `NARU_SEED=n` replays that one.
#![allow(clippy::unwrap_used, clippy::panic)]

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use naru_base::share::Denominator;
use naru_base::{Chance, Fraction};
use naru_route::reference::{Decision, RefTable};
use naru_route::{Block, Observer, Outcome, RuleId, Subject, Table, Verdict};
use naru_spec::{
    Action, DirectResponse, Domain, HeaderMatch, HeaderOps, HeaderTest, Match, NameMatch, PathMatch, Pattern,
    RouteTable, Rule, Scheme, StringMatch, TlsRequirement, ValueTest, VirtualHost,
};

const TABLES: u64 = 500;
const REQUESTS: u64 = 200;

#[test]
fn the_tables_decide_as_the_reference_does() {
    #[allow(clippy::disallowed_methods, reason = "replays one seed")]
    let only = std::env::var("NARU_SEED").ok().map(|seed| seed.parse::<u64>().unwrap());
    let seeds = only.map_or(0..TABLES, |seed| seed..seed + 1);
    let mut verdicts = [0_u64; 4];
    for seed in seeds {
        let mut dice = Dice { chance: Chance::split(seed, "route"), is_telling: false };
        let routes = dice.table();
        let table = Table::compile(&routes, &|_| None).unwrap();
        let reference = RefTable::new(&routes);
        for number in 0..REQUESTS {
            let request = dice.request();
            let subject = request.subject();
            let expected = reference.find(&subject);
            let found = table.find(&subject, &mut ());
            verdicts[kind(expected)] += 1;
            if number % 16 == 0 {
                explains_as_it_decides(&table, &reference, &subject);
            }
            if found != expected {
                let rules: Vec<&Rule> = routes.virtual_hosts.iter().flat_map(|host| &host.rules).collect();
                let show = |verdict| match verdict {
                    Verdict::Rule { rule, .. } => format!("{verdict:?} {:#?}", rules[rule.index()].matches),
                    other => format!("{other:?}"),
                };
                panic!(
                    "NARU_SEED={seed}, request {number}: {subject:#?}\nfound {}\nexpected {}",
                    show(found),
                    show(expected)
                );
            }
        }
    }
    if only.is_none() {
        assert!(verdicts.iter().all(|&count| count > TABLES * REQUESTS / 50), "{verdicts:?}");
    }
}

/// One block by itself, as a table of it alone decides.
#[test]
fn a_block_holds_where_a_rule_of_it_would_be_taken() {
    let mut holding = 0;
    for seed in 0..TABLES {
        let mut dice = Dice { chance: Chance::split(seed, "block"), is_telling: false };
        let mut host = dice.virtual_host(false);
        let spec = dice.block(seed % 6 == 0);
        let rule = host.rules.pop();
        let direct = DirectResponse { status: http::StatusCode::OK, body: Vec::new() };
        let rule = rule.unwrap_or_else(|| Rule {
            gate: Vec::new(),
            name: String::new(),
            origin: String::new(),
            matches: Vec::new(),
            action: Action::Direct(Box::new(direct)),
            request_headers: HeaderOps::default(),
            response_headers: HeaderOps::default(),
        });
        host.domains = vec![Domain::Any];
        host.tls = TlsRequirement::None;
        host.rules = vec![Rule { matches: vec![spec.clone()], ..rule }];
        let routes = RouteTable { virtual_hosts: vec![host], ..RouteTable::default() };
        let (reference, block) = (RefTable::new(&routes), Block::compile(&spec).unwrap());
        for _ in 0..20 {
            let request = dice.request();
            let subject = request.subject();
            let is_taken = matches!(reference.find(&subject), Verdict::Rule { .. });
            assert_eq!(block.holds(&subject), is_taken, "seed {seed}: {spec:#?} {subject:#?}");
            holding += u64::from(is_taken);
        }
    }
    assert!(holding > TABLES / 2, "{holding}");
}

fn kind(verdict: Verdict) -> usize {
    match verdict {
        Verdict::Rule { .. } => 0,
        Verdict::NoRule { .. } | Verdict::ServerOptions { .. } => 1,
        Verdict::NoVirtualHost => 2,
        Verdict::RequiresTls { .. } => 3,
    }
}

/// What was considered last, and matched, is the verdict; what an observer saw match, the reference
/// either took or never came to.
fn explains_as_it_decides(table: &Table, reference: &RefTable<'_>, subject: &Subject<'_>) {
    let of_connect = table.find_for(true, subject, &mut ());
    assert_eq!(of_connect, reference.find_connect(subject));
    let explained = reference.explain_connect(subject);
    let is_last = explained.last().is_some_and(|last| last.decided_by == Decision::Matched);
    assert_eq!(is_last, matches!(of_connect, Verdict::Rule { .. }));
    let considered = reference.explain(subject);
    let matched: Vec<usize> =
        (0..considered.len()).filter(|&at| considered[at].decided_by == Decision::Matched).collect();
    let mut seen = Seen::default();
    match table.find(subject, &mut seen) {
        Verdict::Rule { rule, .. } => {
            assert_eq!(matched, [considered.len() - 1]);
            assert_eq!(considered[matched[0]].rule, rule);
            assert_eq!(seen.0.iter().min(), Some(&(rule, considered[matched[0]].block)));
        }
        _ => assert!(matched.is_empty() && seen.0.is_empty()),
    }
}

#[derive(Default)]
struct Seen(Vec<(RuleId, usize)>);

impl Observer for Seen {
    fn considered(&mut self, rule: RuleId, block: usize, outcome: Outcome) {
        if outcome == Outcome::Matched {
            self.0.push((rule, block));
        }
    }
}

struct Request {
    method: Method,
    authority: String,
    path: String,
    query: Option<String>,
    scheme: Scheme,
    headers: HeaderMap,
    source: String,
    is_internal: bool,
    draw: u64,
}

impl Request {
    fn subject(&self) -> Subject<'_> {
        Subject {
            method: &self.method,
            authority: &self.authority,
            path: &self.path,
            query: self.query.as_deref(),
            scheme: self.scheme,
            headers: &self.headers,
            source: self.source.parse().unwrap(),
            is_internal: self.is_internal,
            draw: self.draw,
            claims: None,
        }
    }
}

const METHODS: &[&str] = &["GET", "POST", "PUT", "get"];
const AUTHORITIES: &[&str] =
    &["a.test", "A.Test", "b.test", "x.a.test", "a.test:80", "a.other", ".a.test", "a.", "test", ""];
const DOMAINS: &[&str] = &[
    "a.test",
    "A.test",
    "b.test",
    "a.test:80",
    "*.test",
    "*.a.test",
    "*a.test",
    "*t",
    "a.*",
    "a.t*",
    "b*",
    "*",
];
const VALUES: &[&str] = &["", "1", "2", "3", "4", "5", "6", "a", "A", "ab", "B", "b", "a,1", "17", "-5"];
const EXPRESSIONS: &[&str] = &[
    "a.*",
    "(?i)a",
    "a|b",
    r"\d+",
    "[a-c1]*",
    ".*b",
    "/a.*",
    "(?i)/a/.*",
    r"/\w+/b",
    "/a|/b",
    "/ab?/a*",
    "/a/b",
    "/b(a|/a)",
    "/a/b|/b/b",
];
const HEADERS: &[&str] = &["x-a", "x-b", "content-type"];
const NAMES: &[&str] = &["ab", "a", "b"];
const SOURCES: &[&str] =
    &["10.0.0.1", "::ffff:10.0.0.1", "10.9.0.1", "8.8.8.8", "127.0.0.1", "::1", "2001:db8::1", "fd00::1"];
const NETS: &[&str] = &[
    "10.0.0.0/8",
    "10.0.0.0/16",
    "8.8.8.8/32",
    "::ffff:10.0.0.0/104",
    "0.0.0.0/0",
    "::/0",
    "2001:db8::/32",
    "::1/128",
];

struct Dice {
    chance: Chance,
    /// A large table asks few names for exact values, so that lookups take the place of asking.
    is_telling: bool,
}

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.chance.below(bound)
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn of(&mut self, list: &[&'static str]) -> &'static str {
        list[self.below(list.len() as u64) as usize]
    }

    fn name_of(&mut self, list: &[&'static str]) -> &'static str {
        if self.is_telling && !self.one_in(5) { list[0] } else { self.of(list) }
    }

    fn path(&mut self) -> String {
        let mut path = if self.one_in(20) { String::new() } else { "/".to_owned() };
        for _ in 0..self.below(5) {
            path.push_str(self.of(&["/", "a", "b", "A", "a", "/a", "/b"]));
        }
        path
    }

    fn table(&mut self) -> RouteTable {
        // One in six tables is large enough for its groups to be split.
        let is_large = self.one_in(6);
        self.is_telling = is_large;
        let hosts = if is_large { 1 } else { self.below(4) };
        let virtual_hosts = (0..hosts).map(|_| self.virtual_host(is_large)).collect();
        RouteTable { virtual_hosts, ignores_port: self.one_in(3), ..RouteTable::default() }
    }

    fn virtual_host(&mut self, is_large: bool) -> VirtualHost {
        let mut domains: Vec<Domain> =
            (0..self.below(4)).map(|_| Domain::parse(self.of(DOMAINS)).unwrap()).collect();
        if is_large || self.one_in(2) {
            domains.push(Domain::Any);
        }
        // Large tables have few paths and many conditions, some of them only expressions.
        let is_expressive = is_large && self.one_in(3);
        let paths = ["/", "/a", "", "/b"].map(|path| PathMatch::Prefix(path.to_owned()));
        let count = if is_large { 50 + self.below(80) } else { self.below(9) };
        let rules = (0..count)
            .map(|_| {
                let blocks = if is_large { 1 } else { self.below(4) };
                let matches = (0..blocks)
                    .map(|_| {
                        let mut block = self.block(is_large);
                        if is_expressive && !self.one_in(4) {
                            block.path = PathMatch::Regex(Pattern::new(self.of(EXPRESSIONS)).unwrap());
                        } else if is_large && !self.one_in(8) {
                            block.path = paths[self.below(4) as usize].clone();
                            block.ignore_path_case = false;
                        }
                        block
                    })
                    .collect();
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
            })
            .collect();
        let tls = match self.below(10) {
            0 => TlsRequirement::All,
            1 => TlsRequirement::ExternalOnly,
            _ => TlsRequirement::None,
        };
        VirtualHost {
            name: String::new(),
            domains,
            rules,
            tls,
            request_headers: HeaderOps::default(),
            response_headers: HeaderOps::default(),
        }
    }

    fn path_match(&mut self) -> PathMatch {
        match self.below(9) {
            0..=2 => PathMatch::Prefix(self.path()),
            3 | 4 => PathMatch::Exact(self.path()),
            5 | 6 => PathMatch::SegmentPrefix(self.path().trim_end_matches('/').to_owned()),
            7 => PathMatch::Connect,
            _ => PathMatch::Regex(Pattern::new(self.of(EXPRESSIONS)).unwrap()),
        }
    }

    fn block(&mut self, is_large: bool) -> Match {
        let mut block = Match { path: self.path_match(), ..Match::default() };
        block.ignore_path_case = self.one_in(5);
        if self.one_in(6) {
            let mut test = StringMatch::exact(self.of(METHODS));
            if self.one_in(3) {
                test.test = ValueTest::Regex(Pattern::new("P.*|GET").unwrap());
            }
            block.method = Some(test);
        }
        if self.one_in(15) {
            block.scheme = Some(StringMatch::exact(self.of(&["http", "https"])));
        }
        if self.one_in(15) {
            let mut test = self.text();
            test.test = ValueTest::Suffix(self.of(&["test", "TEST", ":80", ""]).to_owned());
            block.authority = Some(test);
        }
        // Blocks of large tables are told apart by one property or two, so that lookups decide.
        let kinds = if is_large { 1 + self.below(2) } else { self.below(3) };
        for _ in 0..kinds {
            match self.below(5) {
                0 | 1 => block.headers.push(self.header()),
                2 | 3 => block.query.push(self.name()),
                _ => block.cookies.push(self.name()),
            }
        }
        if self.one_in(12) {
            for _ in 0..1 + self.below(2) {
                block.sources.push(self.of(NETS).parse().unwrap());
            }
        }
        if self.one_in(10) {
            let share = self.below(100) as u32;
            block.fraction = Some(Fraction::new(share, Denominator::Hundred));
        }
        block.grpc = self.one_in(15);
        block
    }

    fn header(&mut self) -> HeaderMatch {
        let test = match self.below(if self.is_telling { 60 } else { 10 }) {
            0 => HeaderTest::Present(self.one_in(2)),
            1 => HeaderTest::Range { start: -5, end: 17 },
            _ => HeaderTest::Value(self.text()),
        };
        HeaderMatch {
            name: HeaderName::from_static(self.name_of(HEADERS)),
            test,
            invert: self.inverts(),
            missing_as_empty: self.one_in(5),
        }
    }

    fn name(&mut self) -> NameMatch {
        let test = if self.one_in(if self.is_telling { 40 } else { 4 }) { None } else { Some(self.text()) };
        NameMatch { name: self.name_of(NAMES).to_owned(), test, invert: self.inverts() }
    }

    fn inverts(&mut self) -> bool {
        self.one_in(if self.is_telling { 40 } else { 5 })
    }

    fn text(&mut self) -> StringMatch {
        let value = self.of(VALUES).to_owned();
        let test = match self.below(if self.is_telling { 60 } else { 12 }) {
            0 => ValueTest::Prefix(value),
            1 => ValueTest::Suffix(value),
            2 => ValueTest::Contains(value),
            3 => ValueTest::Regex(Pattern::new(self.of(EXPRESSIONS)).unwrap()),
            _ => ValueTest::Exact(value),
        };
        StringMatch { test, ignore_case: self.one_in(6) }
    }

    fn request(&mut self) -> Request {
        let mut headers = HeaderMap::new();
        for name in HEADERS {
            for _ in 0..[0, 1, 1, 1, 2][self.below(5) as usize] {
                let value = if *name == "content-type" {
                    self.of(&[
                        "application/grpc",
                        "application/grpc+proto",
                        "application/grpc-web",
                        "text/html",
                    ])
                } else {
                    self.of(VALUES)
                };
                headers.append(*name, HeaderValue::from_static(value));
            }
        }
        for _ in 0..self.below(3) {
            let first = format!("{}={}", self.of(NAMES), self.of(VALUES));
            let second = self.of(&["", "; a=1", ";b=\"2\"", "; b", "; ab=a=b ", "; =1"]);
            headers.append("cookie", HeaderValue::try_from(format!("{first}{second}")).unwrap());
        }
        let query = match self.below(4) {
            0 => None,
            1 => Some(String::new()),
            _ => {
                let parameters: Vec<String> = (0..self.below(3))
                    .map(|_| {
                        let equals = self.of(&["=", "=", "=", ""]);
                        let value = if equals.is_empty() { "" } else { self.of(VALUES) };
                        format!("{}{equals}{value}", self.of(&["a", "b", "ab", "", "c"]))
                    })
                    .collect();
                Some(parameters.join("&"))
            }
        };
        Request {
            method: self.of(METHODS).parse().unwrap(),
            authority: self.of(AUTHORITIES).to_owned(),
            path: self.path(),
            query,
            scheme: if self.one_in(2) { Scheme::Http } else { Scheme::Https },
            headers,
            source: self.of(SOURCES).to_owned(),
            is_internal: self.one_in(2),
            draw: self.chance.draw(),
        }
    }
}
