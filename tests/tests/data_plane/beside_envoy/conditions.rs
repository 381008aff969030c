//! Conditions in CEL: does what naru reads of a text come to the same as the tree of it does by Envoy?
//!
//! Envoy goes over no list and joins none, which naru does: that is in the tests of `core/condition` alone.
//! Each condition stands in the policy of a route of its own; both are asked with the same requests.

use std::net::SocketAddr;

use naru_condition::parse;
use naru_spec::Cel;
use naru_tests::{Bootstrap, Envoy, Naru, Speaks, Upstream, Wire};
use serde_json::{Value, json};

/// As the API writes it. Written here once more, so that nobody agrees with himself.
fn tree(said: &Cel) -> Value {
    let constant = |name: &str, value: Value| json!({ "const_expr": { name: value } });
    match said {
        Cel::Null => constant("null_value", Value::Null),
        Cel::Bool(is) => constant("bool_value", json!(is)),
        Cel::Int(whole) => constant("int64_value", json!(whole.to_string())),
        Cel::Uint(whole) => constant("uint64_value", json!(whole.to_string())),
        Cel::Double(real) => constant("double_value", json!(real)),
        Cel::Text(text) => constant("string_value", json!(text)),
        Cel::Bytes(bytes) => constant("bytes_value", json!(base64_of(bytes))),
        Cel::Ident(name) => json!({ "ident_expr": { "name": name } }),
        Cel::Select(said) => json!({ "select_expr":
            { "operand": tree(&said.of), "field": said.field, "test_only": said.tests } }),
        Cel::Call(said) => {
            let args: Vec<_> = said.args.iter().map(tree).collect();
            let mut call = json!({ "function": said.function, "args": args });
            if let Some(target) = &said.target {
                call["target"] = tree(target);
            }
            json!({ "call_expr": call })
        }
        Cel::List(list) => json!({ "list_expr": { "elements": list.iter().map(tree).collect::<Vec<_>>() } }),
        Cel::Map(entries) => {
            let entries =
                entries.iter().map(|(key, value)| json!({ "map_key": tree(key), "value": tree(value) }));
            json!({ "struct_expr": { "entries": entries.collect::<Vec<_>>() } })
        }
        Cel::Fold(said) => json!({ "comprehension_expr": {
            "iter_var": said.item,
            "iter_range": tree(&said.over),
            "accu_var": said.kept,
            "accu_init": tree(&said.first),
            "loop_condition": tree(&said.goes_on),
            "loop_step": tree(&said.step),
            "result": tree(&said.result),
        } }),
    }
}

fn base64_of(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

const CONDITIONS: &[&str] = &[
    "request.method == 'POST'",
    "request.url_path.startsWith('/0') || request.headers['x-a'] == 'one'",
    "request.path.endsWith('?b=2')",
    "request.path == '/3/x' && request.query == ''",
    "request.query == 'b=2' && request.path.contains('?')",
    "request.host == 'a.example' && request.scheme == 'http' && request.protocol == 'HTTP/1.1'",
    "has(request.headers) && 'x-a' in request.headers",
    "request.headers['x-many'] == 'a,b'",
    "request.headers['X-A'] == 'one' || request.headers[':method'] == 'POST'",
    "request.headers[':path'].startsWith('/9/') && request.headers[':authority'] == 'a.example'",
    "request.useragent == 'me'",
    "has(request.useragent) && !has(request.referer)",
    "has(request.id) && size(request.id) > 30",
    "source.address.startsWith('127.0.0.1:') && source.port > 1024",
    "destination.port > 1024 && destination.address.contains(':')",
    "request.headers['x-a'].matches('^o.e$')",
    "request.headers['x-a'].matches('n')",
    "request.headers['x-a'] in ['one', 'two']",
    "request.headers['x-none'] == 'one' || true",
    "true || request.headers['x-none'] == 'one'",
    "request.headers['x-none'] == 'one' && false || true",
    "request.headers['x-none'] == 'one'",
    "!(request.headers['x-none'] == 'one' && false)",
    "request.headers['x-n'] == '5' ? true : request.method == 'POST'",
    "1 + 2 * 3 - 4 / 2 % 3 == 5 && -7 / 2 == -3 && -7 % 4 == -3",
    "1u + 2u == 3u && 1.5 * 2.0 == 3.0 && 7.0 / 2.0 == 3.5",
    "9223372036854775807 + 1 > 0",
    "1 / 0 == 1",
    "1 == 1.0",
    "1u < 2",
    "1.5 > 1",
    "'a' < 'b' && b'a' < b'b' && false < true",
    "'é'.size() == 1 && size('abc') == 3 && size([1, 2]) == 2 && size({'a': 1}) == 1",
    "{'a': 1}.a == 1 && {'a': 1}['a'] == 1 && has({'a': 1}.a) && !has({'a': 1}.b)",
    "{'a': 1}.b == 1",
    "'a' in {'a': 1} && !('b' in {'a': 1})",
    "[1, 2] == [1, 2] && {'a': 1} == {'a': 1} && [1] != [2]",
    "[1, 2][1] == 2",
    "[1, 2][2] == 2",
    "null == null",
    "int('7') == 7 && uint('7') == 7u && double('1.5') == 1.5",
    "int('x') == 1",
    "int(7.9) == 7 && int(-7.9) == -7",
    "string(7) == '7' && 'a' + 'b' == 'ab'",
    "type(1) == int && type('') == string && type(1) != type('')",
    "request.headers['x-a'] > 5",
    "request.headers['x-a']",
    "request.method",
    "!request.method",
    "request.time > timestamp('2020-01-01T00:00:00Z') && request.time < timestamp('2200-01-01T00:00:00+09:00')",
    "request.time - timestamp('2020-01-01T00:00:00Z') > duration('24h') && has(request.time)",
    "timestamp('2026-11-22T00:30:00.25Z').getHours('+09:00') == 9",
    "timestamp('2026-11-22T00:30:00.25Z').getDayOfWeek() == 0 && timestamp('2026-11-22T00:30:00Z').getMonth() == 10",
    "timestamp('2026-11-22T00:30:00.25Z').getDate() == 22 && timestamp('2026-11-22T00:30:00Z').getDayOfMonth() == 21",
    "timestamp('2026-11-22T00:30:00.25Z').getDayOfYear() == 325 && timestamp(0).getFullYear() == 1970",
    "timestamp('2026-11-22T00:30:00.25Z').getMilliseconds() == 250 && int(timestamp('2026-11-22T00:30:00Z')) == 1795307400",
    "duration('3730.321s').getHours() == 1 && duration('3730.321s').getMinutes() == 62",
    "duration('3730.321s').getSeconds() == 3730 && duration('3730.321s').getMilliseconds() == 321",
    "duration('1h30m') + duration('30m') == duration('2h') && duration('1h') - duration('1m') == duration('59m')",
    "string(duration('1h30m')) == '5400s' && string(timestamp('2026-11-22T09:30:00+09:00')) == '2026-11-22T00:30:00Z'",
    "duration(request.headers['x-a']) > duration('1s')",
    "request.time > 5",
    "request.time + request.time == request.time",
];

const ASKS: [&str; 4] = [
    "GET /N/x HTTP/1.1\r\nhost: a.example\r\n\r\n",
    "POST /N/x?b=2 HTTP/1.1\r\nhost: a.example\r\nx-a: one\r\nuser-agent: me\r\ncontent-length: 0\r\n\r\n",
    "GET /N/x?b=2 HTTP/1.1\r\nhost: a.example\r\nx-a: two\r\nx-many: a\r\nx-many: b\r\nx-n: 5\r\n\r\n",
    "GET /N/y HTTP/1.1\r\nhost: a.example\r\nx-n: 6\r\nreferer: http://b.example/\r\n\r\n",
];

async fn ask(address: SocketAddr) -> Vec<String> {
    let mut said = Vec::new();
    let mut client = Wire::connect(address).await;
    for (at, condition) in CONDITIONS.iter().enumerate() {
        for ask in ASKS {
            client.send(ask.replace("/N/", &format!("/{at}/"))).await;
            said.push(format!("{condition} for {ask:?}: {}", client.response().await.status()));
        }
    }
    said
}

#[tokio::test]
async fn conditions_hold_for_the_same_requests() {
    let up = Upstream::plain(Speaks::Http1).await;
    let of_route = |(at, condition): (usize, &&str)| {
        let tree = tree(&parse(condition).unwrap_or_else(|wrong| panic!("{condition}: {wrong}")));
        let policy = json!({
            "permissions": [{ "any": true }],
            "principals": [{ "any": true }],
            "condition": tree,
            "cel_config": { "enable_string_conversion": true, "enable_string_concat": true },
        });
        let said = json!({
            "@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBACPerRoute",
            "rbac": { "rules": { "action": "ALLOW", "policies": { "one": policy } } },
        });
        format!(
            "- match: {{ prefix: \"/{at}/\" }}\n  route: {{ cluster: up }}\n  typed_per_filter_config:\n    \
             envoy.filters.http.rbac: {said}\n"
        )
    };
    let routes: String = CONDITIONS.iter().enumerate().map(of_route).collect();
    let filter = "- name: envoy.filters.http.rbac\n  typed_config:\n    \"@type\": \
                  type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC";
    let bootstrap = Bootstrap::new(&routes).filter(filter).cluster("up", up.address, "");
    let envoy = Envoy::start(&bootstrap.clone().admin().text()).await;
    let by_envoy = ask(envoy.address).await;
    let naru = Naru::start(&bootstrap);
    let by_naru = ask(naru.address).await;
    let differences: Vec<_> = by_envoy.iter().zip(&by_naru).filter(|(one, other)| one != other).collect();
    assert!(differences.is_empty(), "{differences:#?}");
    assert!(
        by_envoy.iter().any(|line| line.ends_with("403"))
            && by_envoy.iter().any(|line| line.ends_with("200"))
    );
    drop(envoy);
    naru.settles().await;
}
