//! What comes of conditions? Tables of the language's definition, what is told of wrong ones, and what they cost.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::net::SocketAddr;

use http::{HeaderMap, HeaderValue};
use naru_base::{Chance, Json, WallTime};
use naru_condition::{Condition, Facts, Fail, check, parse};
use naru_spec::Cel;

struct World {
    headers: HeaderMap,
    claims: Json,
    session: Json,
}

fn text(text: &str) -> Json {
    Json::Text(text.into())
}

fn map(members: &[(&str, Json)]) -> Json {
    Json::Map(members.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect())
}

impl World {
    fn new() -> World {
        let mut headers = HeaderMap::new();
        headers.insert("x-a", HeaderValue::from_static("one"));
        headers.append("x-many", HeaderValue::from_static("a"));
        headers.append("x-many", HeaderValue::from_static("b"));
        headers.insert("user-agent", HeaderValue::from_static("curl/8"));
        let claims = map(&[
            ("iss", text("https://id.example")),
            ("sub", text("me")),
            ("groups", Json::List(vec![text("staff"), text("admin")])),
            ("level", Json::Whole(5)),
            ("huge", Json::Whole(9_007_199_254_740_993)),
            ("share", Json::Real(0.5)),
            ("is_new", Json::Bool(true)),
            ("nobody", Json::Null),
            ("address", map(&[("city", text("Zug")), ("zip", Json::Whole(6300))])),
        ]);
        let session = map(&[("sub", text("you")), ("roles", Json::List(vec![text("editor")]))]);
        World { headers, claims, session }
    }

    fn ask(&self, condition: &Condition) -> Result<bool, Fail> {
        let source: SocketAddr = ([192, 0, 2, 7], 4_321).into();
        let tokens = [("payload", &self.claims)];
        condition.holds(&Facts {
            method: "GET",
            authority: "shop.example:8080",
            path: "/shop/cart",
            query: Some("a=1&b=2"),
            scheme: "https",
            protocol: "HTTP/2",
            headers: &self.headers,
            // 2026-11-22T00:30:00.25Z, a Sunday.
            time: WallTime(1_795_307_400_250_000_000),
            source,
            destination: ([10, 0, 0, 1], 8_080).into(),
            is_tls: true,
            is_certified: true,
            subject: None,
            uri: Some("spiffe://cluster.local/ns/a/sa/b"),
            dns: None,
            server_name: Some("shop.example"),
            tokens: &tokens,
            session: Some(&self.session),
        })
    }
}

#[track_caller]
fn compiled(said: &str) -> Condition {
    let tree = parse(said).unwrap_or_else(|wrong| panic!("{said}: {wrong}"));
    Condition::compile(&tree).unwrap_or_else(|problems| panic!("{said}: {problems:?}"))
}

#[track_caller]
fn comes_to(said: &str, expected: Result<bool, Fail>) {
    assert_eq!(World::new().ask(&compiled(said)), expected, "{said}");
}

#[track_caller]
fn hold(all: &[&str]) {
    for said in all {
        comes_to(said, Ok(true));
        comes_to(&format!("!({said}\n)"), Ok(false));
    }
}

#[test]
fn all_that_is_known_of_a_request_has_envoys_names() {
    hold(&[
        "request.method == 'GET'",
        "request.path == '/shop/cart?a=1&b=2'",
        "request.url_path == '/shop/cart'",
        "request.query == 'a=1&b=2'",
        "request.host == 'shop.example:8080'",
        "request.scheme == 'https' && request.protocol == 'HTTP/2'",
        "request.headers['X-A'] == 'one' && request.headers['x-many'] == 'a,b'",
        "request.headers[':method'] == 'GET' && request.headers[':path'].endsWith('b=2')",
        "'x-a' in request.headers && !('x-b' in request.headers)",
        "has(request.headers.via) == false",
        "request.useragent.startsWith('curl')",
        "!has(request.referer) && has(request.useragent)",
        "source.address == '192.0.2.7:4321' && source.port == 4321",
        "destination.address == '10.0.0.1:8080' && destination.port == 8080",
        "connection.mtls && connection.requested_server_name == 'shop.example'",
        "connection.uri_san_peer_certificate.contains('/ns/a/')",
        "!has(connection.subject_peer_certificate)",
        "metadata.filter_metadata['envoy.filters.http.jwt_authn']['payload']['sub'] == 'me'",
        "metadata.filter_metadata['envoy.filters.http.jwt_authn'].payload.sub == 'me'",
        "request.auth.claims.sub == 'me' && request.auth.claims['sub'] == 'me'",
        "request.auth.principal == 'https://id.example/me'",
        "'admin' in request.auth.claims.groups",
        "request.auth.claims.address.city == 'Zug' && request.auth.claims.address.zip == 6300",
        "request.auth.claims.level >= 5 && request.auth.claims.level < 5.5",
        "request.auth.claims.huge != 9007199254740992",
        "request.auth.claims.huge == 9007199254740993",
        "request.auth.claims.is_new && request.auth.claims.nobody == null",
        "has(request.auth.claims.sub) && !has(request.auth.claims.email)",
        "session.claims.sub == 'you' && 'editor' in session.claims.roles",
    ]);
}

#[test]
fn the_language_means_what_its_definition_says() {
    hold(&[
        "1 + 2 * 3 == 7 && (1 + 2) * 3 == 9 && 7 / 2 == 3 && -7 / 2 == -3 && 7 % 4 == 3 && -7 % 4 == -3",
        "1u + 2u == 3u && 0x10 == 16 && 1.5e2 == 150.0 && .5 == 0.5",
        "1 == 1.0 && 1u == 1 && 1 < 1.5 && 2u > 1.5 && 9223372036854775807 != 9223372036854775808.0",
        "-9223372036854775808 < 0 && - 3 == -3 && --3 == 3",
        "'a' + 'b' == 'ab' && 'a' < 'b' && b'ab' + b'c' == b'abc' && '\\x41\\u00e9\\101' == 'AéA'",
        r#"r'\n' == '\\n' && '''a'b''' == "a'b" && b'\xff' != b'\xfe'"#,
        "[1, 2] + [3] == [1, 2, 3] && 2 in [1, 2] && !(4 in [1, 2]) && [1, 2][1] == 2 && size([]) == 0",
        "{'a': 1}.a == 1 && {'a': 1}['a'] == 1 && 'a' in {'a': 1} && {'a': 1, 'b': 2} == {'b': 2, 'a': 1.0}",
        "{1: 'x'}[1u] == 'x' && size({1: 2}) == 1 && has({'a': 1}.a) && !has({'a': 1}.b)",
        "'héllo'.size() == 5 && size(b'h\\303\\251') == 3",
        "'abc'.contains('b') && 'abc'.startsWith('ab') && 'abc'.endsWith('bc') && 'abc'.matches('^a.c$')",
        "'abc'.matches('b') && !'abc'.matches('^b')",
        "int('7') == 7 && int(7.9) == 7 && int(-7.9) == -7 && uint(7) == 7u && double('1.5') == 1.5",
        "string(7) == '7' && string(true) == 'true' && bytes('a') == b'a' && string(b'a') == 'a' && bool('t')",
        "type(1) == int && type('') == string && type([]) == list && type(1u) != type(1) && dyn(1) == 1",
        "(true ? 'a' : 1 / 0) == 'a' && (false ? 1 : 2) == 2 && (1 < 2 ? true : false)",
        "[1, 2].all(x, x > 0) && [1, 2].exists(x, x == 2) && [1, 2, 2].exists_one(x, x == 1)",
        "[1, 2, 3].filter(x, x > 1) == [2, 3] && [1, 2].map(x, x * 2) == [2, 4] && [1, 2].map(x, x > 1, x * 3) == [6]",
        "[[1], [2, 3]].exists(x, x.exists(y, y == 3)) && {'a': 1}.all(k, k == 'a')",
        "request.headers.exists(name, name.startsWith('x-m'))",
        "[].all(x, false) && ![].exists(x, true)",
        "null == null && null != 1 && [1] != {'a': 1} && 'a' != 1",
        "true || 1 / 0 == 1 && true // what stands behind a stroke is not read",
        // Either side decides, whatever becomes of the other.
        "true || 1 / 0 == 1",
        "1 / 0 == 1 || true",
        "!(1 / 0 == 1 && false)",
        "[0, 1].exists(x, 1 / x == 1)",
        "![0, 1].all(x, 1 / x == 2)",
    ]);
    assert_eq!(parse("a.b.c"), parse(" a . b\n.c // d"));
    assert_eq!(parse("-1").unwrap(), Cel::Int(-1));
}

#[test]
fn moments_and_spans_of_time_are_what_the_language_says() {
    hold(&[
        "request.time == timestamp('2026-11-22T00:30:00.25Z') && request.time > timestamp(1795307400)",
        "request.time < timestamp('2026-11-22T09:30:01+09:00') && request.time.getHours() == 0",
        "request.time.getHours('+09:00') == 9 && request.time.getHours('-01:00') == 23",
        "request.time.getMinutes('+05:30') == 0 && request.time.getMinutes() == 30",
        "request.time.getFullYear() == 2026 && request.time.getMonth() == 10 && request.time.getDate() == 22",
        "request.time.getDayOfMonth() == 21 && request.time.getDayOfMonth('-01:00') == 20",
        "request.time.getDayOfWeek() == 0 && request.time.getDayOfWeek('-01:00') == 6",
        "request.time.getDayOfYear() == 325 && timestamp('2024-12-31T00:00:00Z').getDayOfYear('UTC') == 365",
        "request.time.getSeconds() == 0 && request.time.getMilliseconds() == 250",
        "timestamp('1969-12-31T23:59:59.5Z').getMilliseconds() == 500 && int(timestamp('1969-12-31T23:59:59.5Z')) == -1",
        "request.time + duration('1h') > request.time && duration('1h') + request.time > request.time",
        "request.time - duration('30m250ms') == timestamp('2026-11-22T00:00:00Z')",
        "request.time - timestamp('2026-11-22T00:00:00Z') == duration('30m0.25s')",
        "timestamp(0) - request.time < duration('0s') && duration('1h') - duration('1m') == duration('59m')",
        "duration('1h') + duration('30m') == duration('90m') && duration('100ms') < duration('1s')",
        "duration('3730.321s').getHours() == 1 && duration('3730.321s').getMinutes() == 62",
        "duration('3730.321s').getSeconds() == 3730 && duration('3730.321s').getMilliseconds() == 321",
        "duration('-1.5s').getSeconds() == -1 && duration('-1.5s').getMilliseconds() == -500",
        "string(duration('1h30m')) == '5400s' && string(duration('-1.5s')) == '-1.5s'",
        "string(timestamp('2026-11-22T09:30:00+09:00')) == '2026-11-22T00:30:00Z' && int(request.time) == 1795307400",
        "timestamp(request.time) == request.time && duration(duration('1s')) == duration('1s')",
        "type(request.time) != type(duration('1s')) && request.time != 7 && type(request.time) != string",
        "timestamp(int(request.auth.claims.level)) == timestamp('1970-01-01T00:00:05Z')",
        "request.time.getDayOfWeek('+09:00') in [0, 6] && has(request.time)",
    ]);
    for (said, fail) in [
        ("timestamp(request.auth.claims.sub) < request.time", Fail::Range),
        ("duration(request.auth.claims.sub) < duration('1s')", Fail::Range),
        ("timestamp(request.auth.claims.level) < request.time", Fail::NoOverload),
        ("timestamp('9999-12-31T23:59:59Z') + duration('1s') > request.time", Fail::Range),
        ("timestamp('0001-01-01T00:00:00Z') - duration('1ns') < request.time", Fail::Range),
        ("duration('315576000000s') + duration('1ns') > duration('0')", Fail::Range),
        ("timestamp(253402300800) > request.time", Fail::Range),
        ("request.time.getHours(request.auth.claims.sub) == 1", Fail::Range),
        ("duration('1s').getHours('+01:00') == 0", Fail::NoOverload),
        ("dyn(duration('1s')).getFullYear() == 0", Fail::NoOverload),
        ("dyn(request.time) + request.time == request.time", Fail::NoOverload),
        ("{request.time: 1} == {}", Fail::NoOverload),
    ] {
        comes_to(said, Err(fail));
    }
    for (said, expected) in [
        ("request.time < timestamp('yesterday')", "'yesterday' is no timestamp"),
        ("duration('1 h') < duration('2h')", "'1 h' is no duration"),
        ("request.time.getHours('Asia/Seoul') == 9", "'Asia/Seoul' is no zone that is known"),
        ("getHours(request.time) == 9", "getHours() is called as request.time.getHours('+09:00')"),
    ] {
        let problems = Condition::compile(&parse(said).unwrap()).unwrap_err();
        assert_eq!(problems[0].message, expected, "{said}");
    }
    for (said, expected) in [
        ("request.time > 5", "a timestamp and an int cannot be compared"),
        ("request.time + 1 > request.time", "a timestamp + an int is nothing: both are of one type"),
        ("duration('1s').getDate() == 1", "getDate() is of a timestamp, and this is a duration"),
        ("request.path.getHours() == 1", "getHours() is of a timestamp or a duration, and this is a text"),
        (
            "timestamp(1.5) < request.time",
            "timestamp() is of a text or an int or a timestamp, and this is a double",
        ),
    ] {
        let tree = parse(said).unwrap();
        assert_eq!(check(&tree).first().map(|problem| problem.message.as_str()), Some(expected), "{said}");
    }
    for said in [
        "request.time - timestamp(request.auth.claims.since) < duration('24h')",
        "request.time + duration(request.headers['x-more']) > request.time",
        "request.time - request.time < duration('1s') || dyn(request.time) - duration('1s') < request.time",
    ] {
        assert_eq!(check(&parse(said).unwrap()), [], "{said}");
    }
}

#[test]
fn what_has_no_answer_is_a_failure() {
    for (said, fail) in [
        ("request.auth.claims.email == 'a'", Fail::NoSuchKey),
        ("request.headers['via'] == 'a'", Fail::NoSuchKey),
        ("request.referer == ''", Fail::NoSuchKey),
        ("metadata.filter_metadata['envoy.filters.http.jwt_authn'].other.sub == 'me'", Fail::NoSuchKey),
        ("request.auth.claims.sub > 3", Fail::NoOverload),
        ("request.auth.claims.sub", Fail::NoBool),
        ("request.auth.claims.sub && true", Fail::NoOverload),
        ("1 / 0 == 1", Fail::Range),
        ("9223372036854775807 + 1 > 0", Fail::Range),
        ("1u - 2u == 0u", Fail::Range),
        ("int('x') == 1", Fail::Range),
        ("[1][1] == 1", Fail::Range),
        ("{'a': 1, 'a': 2} == {}", Fail::Range),
        ("int(9223372036854775807.0) == 1", Fail::Range),
        ("[0, 2].exists(x, 1 / x == 1)", Fail::Range),
        ("request.auth.claims.groups.staff == 1", Fail::NoOverload),
    ] {
        comes_to(said, Err(fail));
    }
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    for (said, expected) in [
        ("", "at character 1: it says nothing"),
        ("request.method = 'GET'", "at character 16: '=' compares nothing: write '=='"),
        ("request.method == 'GET", "at character 19: the text has no end"),
        ("a &&", "at character 5: a value is missing at the end"),
        ("a & b", "at character 3: '&' stands alone: write '&&'"),
        ("(a", "at character 3: ')' is missing here"),
        ("a b", "at character 3: an operator is missing before this"),
        ("a ==\n  b ==\n  $", "in line 3 of it, at character 3: '$' is no word of CEL"),
        ("a.all(x)", "at character 3: all() has a name and what is asked of it: list.all(x, x == 'a')"),
        ("a.all(1, true)", "at character 3: the first of all() is a name for each element"),
        ("has(a)", "at character 1: has() asks for a field: has(request.auth.claims.name)"),
        ("9223372036854775808 > 0", "at character 1: the number does not fit into 64 bits"),
        ("if == 1", "at character 1: 'if' is a reserved word"),
        ("'\\q'", "at character 2: '\\q' is no escape"),
        ("'é' == 'é' ==", "at character 14: a value is missing at the end"),
        ("Message{}", "at character 8: messages are not made here"),
        ("1x", "at character 1: a number ends before a name begins"),
    ] {
        assert_eq!(parse(said).unwrap_err().to_string(), expected, "{said}");
    }
}

#[test]
fn names_that_are_none_and_types_that_cannot_meet_are_told() {
    for (said, expected) in [
        ("requst.method == 'GET'", "there is no 'requst'"),
        ("request.verb == 'GET'", "there is no request.verb"),
        ("request == 1", "request is no value itself"),
        ("request.path.beginsWith('/a')", "there is no function 'beginsWith'"),
        ("request.path.matches(request.query)", "the pattern of matches() is not written in the condition"),
        ("request.path.matches('(')", "the pattern '(' is none: unclosed group"),
        ("startsWith(request.path, '/')", "startsWith() is called as text.startsWith(start)"),
        ("response.code == 200", "there is no 'response'"),
        ("metadata.filter_metadata['other'].a == 1", "there is no metadata.filter_metadata.other"),
        ("[1].all(x, x > 0) && x == 1", "there is no 'x'"),
    ] {
        let problems = Condition::compile(&parse(said).unwrap()).unwrap_err();
        assert_eq!(problems[0].message, expected, "{said}");
    }
    for (said, expected) in [
        ("request.path", "a condition is true or false, and this is a text"),
        ("request.method == 7", "a text and an int cannot be compared"),
        ("source.port > '80'", "an int and a text cannot be compared"),
        ("request.path && true", "'&&' joins two of a bool, and this is a text"),
        ("source.port.startsWith('8')", "startsWith() is of a text, and this is an int"),
        ("'a' in request.path", "'in' asks for an element of a list or a map, and this is a text"),
        ("request.path + 1 == ''", "a text + an int is nothing: both are of one type"),
    ] {
        let tree = parse(said).unwrap();
        assert!(Condition::compile(&tree).is_ok(), "{said}");
        assert_eq!(check(&tree).first().map(|problem| problem.message.as_str()), Some(expected), "{said}");
    }
    for said in
        ["request.auth.claims.a == 7", "connection.mtls", "has(request.referer)", "[1].exists(x, x == 'a')"]
    {
        assert_eq!(check(&parse(said).unwrap()), [], "{said}");
    }
}

#[test]
fn nothing_that_is_asked_is_too_dear() {
    let deep = format!("{}true{}", "(".repeat(40), ")".repeat(40));
    assert!(parse(&deep).unwrap_err().message.contains("no deeper"));
    assert!(parse(&"-".repeat(4_000)).is_err());
    assert!(parse(&format!("{}1", "-".repeat(4_000))).is_err());
    assert!(parse(&"!".repeat(4_000)).is_err());
    assert!(parse(&"[".repeat(4_000)).is_err());
    assert!(parse(&"a?".repeat(2_000)).is_err());
    assert!(parse(&" ".repeat(5_000)).unwrap_err().message.contains("5000 bytes"));
    let large = vec!["true"; 600].join("&&");
    let told = Condition::compile(&parse(&large).unwrap()).unwrap_err();
    assert_eq!(told[0].message, "the condition is too large");
    // A chain is a tree that is not deep.
    comes_to(&vec!["true"; 300].join("&&"), Ok(true));
    let sums = vec!["1"; 100].join("+");
    assert!(Condition::compile(&parse(&format!("{sums} == 100")).unwrap()).is_err());
    let list = |count: usize| format!("[{}]", vec!["1"; count].join(","));
    let (twenty, hundred) = (list(20), list(100));
    comes_to(&format!("{twenty}.all(x, {twenty}.all(y, x == y))"), Ok(true));
    comes_to(&format!("{hundred}.all(x, {hundred}.all(y, x == y))"), Err(Fail::TooDear));
    comes_to(&format!("true || {hundred}.all(x, {hundred}.all(y, x == y))"), Ok(true));
    comes_to(&format!("{hundred}.all(x, {hundred}.all(y, x == y)) || true"), Err(Fail::TooDear));
    let four = "[1].all(a, [1].all(b, [1].all(c, [1].all(d, true))))";
    assert!(Condition::compile(&parse(four).unwrap()).is_err());
    // What doubles each time is paid for before it is large.
    let doubled = format!("{}.map(x, 'aaaaaaaaaaaaaaaa').size() == 100", hundred);
    comes_to(&doubled, Ok(true));
    let mut world = World::new();
    let long = "a".repeat(60_000);
    world.headers.insert("x-long", HeaderValue::from_str(&long).unwrap());
    let condition = compiled("request.headers['x-long'].matches('b$')");
    assert_eq!(world.ask(&condition), Ok(false));
    let condition = compiled("[1,2].all(x, !request.headers['x-long'].matches('b$'))");
    assert_eq!(world.ask(&condition), Err(Fail::TooDear));
}

/// Bytes that are nearly conditions: each is refused, or comes to something, and nothing breaks.
#[test]
fn whatever_is_written_nothing_breaks() {
    const PARTS: [&str; 43] = [
        "request",
        ".",
        "path",
        "headers",
        "['x-a']",
        "==",
        "!=",
        "<",
        "&&",
        "||",
        "!",
        "-",
        "+",
        "*",
        "/",
        "%",
        "1",
        "2u",
        "1.5",
        "'a'",
        "b'a'",
        "true",
        "null",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        ",",
        ":",
        "?",
        "in",
        "x",
        ".all(x,",
        ".map(x,",
        "size(",
        "has(",
        "timestamp(",
        "duration(",
        "'1h'",
        ".getHours(",
        "request.time",
    ];
    let mut chance = Chance::new(7);
    let world = World::new();
    let mut answers = 0;
    for _ in 0..40_000 {
        let count = 1 + chance.below(12);
        let said: Vec<&str> = (0..count).map(|_| PARTS[chance.below(PARTS.len() as u64) as usize]).collect();
        let Ok(tree) = parse(&said.concat()) else { continue };
        check(&tree);
        if let Ok(condition) = Condition::compile(&tree) {
            answers += usize::from(world.ask(&condition).is_ok());
        }
    }
    assert!(answers > 50, "{answers}");
}
