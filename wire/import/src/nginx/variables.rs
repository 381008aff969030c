//! nginx's variables in the words of Envoy's format strings.

/// What is known where a value stands.
pub(super) struct Known<'a> {
    /// Of a response: what the upstream said is there.
    pub is_response: bool,
    pub server_name: Option<&'a str>,
    /// What `proxy_pass` names.
    pub proxy_host: Option<String>,
}

/// A value with its variables as operators, or the variables that have none.
pub(super) fn format(text: &str, known: &Known<'_>) -> Result<String, Vec<String>> {
    let mut out = String::new();
    let mut unknown = Vec::new();
    for piece in pieces(text) {
        match piece {
            Piece::Text(text) => out.push_str(&text.replace('%', "%%")),
            Piece::Variable(name) => match operator(name, known) {
                Some(operator) => out.push_str(&operator),
                None => unknown.push(format!("${name}")),
            },
        }
    }
    if unknown.is_empty() { Ok(out) } else { Err(unknown) }
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    Text(&'a str),
    Variable(&'a str),
}

/// `a$b` and `a${b}`; a dollar that no name follows is a dollar.
pub(super) fn pieces(text: &str) -> Vec<Piece<'_>> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut pieces = Vec::new();
    let mut from = 0;
    let mut at = 0;
    while let Some(found) = text[at..].find('$') {
        let dollar = at + found;
        let rest = &text[dollar + 1..];
        let braced = rest.strip_prefix('{').and_then(|inner| inner.split_once('}'));
        let (name, taken) = match braced {
            Some((name, _)) if !name.is_empty() && name.chars().all(is_name) => (name, name.len() + 2),
            _ => {
                let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
                (&rest[..end], end)
            }
        };
        at = dollar + 1 + taken;
        if name.is_empty() {
            continue;
        }
        if from < dollar {
            pieces.push(Piece::Text(&text[from..dollar]));
        }
        pieces.push(Piece::Variable(name));
        from = at;
    }
    if from < text.len() {
        pieces.push(Piece::Text(&text[from..]));
    }
    pieces
}

/// Operators of the same meaning; a request's in a value for a request too.
const OPERATORS: &[(&str, &str)] = &[
    ("remote_addr", "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"),
    ("realip_remote_addr", "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%"),
    ("scheme", "%REQ(:SCHEME)%"),
    ("host", "%REQ(:AUTHORITY)%"),
    ("request_uri", "%REQ(:PATH)%"),
    ("request_method", "%REQ(:METHOD)%"),
    ("request_id", "%REQ(X-REQUEST-ID)%"),
    ("content_type", "%REQ(CONTENT-TYPE)%"),
    ("content_length", "%REQ(CONTENT-LENGTH)%"),
    ("server_addr", "%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%"),
    ("server_port", "%DOWNSTREAM_LOCAL_PORT%"),
    ("server_protocol", "%PROTOCOL%"),
    ("hostname", "%HOSTNAME%"),
    ("connection", "%CONNECTION_ID%"),
    ("ssl_protocol", "%DOWNSTREAM_TLS_VERSION%"),
    ("ssl_server_name", "%REQUESTED_SERVER_NAME%"),
];

const OF_RESPONSES: &[(&str, &str)] = &[
    ("upstream_addr", "%UPSTREAM_HOST%"),
    ("status", "%RESPONSE_CODE%"),
    ("upstream_status", "%RESPONSE_CODE%"),
];

fn operator(name: &str, known: &Known<'_>) -> Option<String> {
    let listed = |list: &[(&str, &str)]| {
        list.iter().find(|(variable, _)| *variable == name).map(|(_, operator)| (*operator).to_owned())
    };
    let header = |prefix: &str| {
        let header = name.strip_prefix(prefix).filter(|rest| !rest.is_empty())?;
        Some(header.replace('_', "-").to_ascii_uppercase())
    };
    match name {
        "server_name" => return known.server_name.map(|name| name.replace('%', "%%")),
        "proxy_host" => return known.proxy_host.as_deref().map(|host| host.replace('%', "%%")),
        "http_host" => return Some("%REQ(:AUTHORITY)%".to_owned()),
        _ => {}
    }
    let of_response = || {
        listed(OF_RESPONSES).or_else(|| header("upstream_http_").map(|header| format!("%RESP({header})%")))
    };
    listed(OPERATORS)
        .or_else(|| header("http_").map(|header| format!("%REQ({header})%")))
        .or_else(|| known.is_response.then(of_response).flatten())
}

#[cfg(test)]
mod tests {
    use super::*;
    use naru_spec::Format;

    #[test]
    fn variables_become_operators_and_text_stays() {
        let known =
            Known { is_response: false, server_name: Some("a.example"), proxy_host: Some("app".into()) };
        let check = |text: &str, expected: Result<&str, &[&str]>| {
            let expected = expected.map(str::to_owned);
            let expected =
                expected.map_err(|names| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>());
            assert_eq!(format(text, &known), expected, "{text}");
        };
        check("plain", Ok("plain"));
        check("100%", Ok("100%%"));
        check("$5 off $", Err(&["$5"]));
        check("a$", Ok("a$"));
        check("$scheme://$host$request_uri", Ok("%REQ(:SCHEME)%://%REQ(:AUTHORITY)%%REQ(:PATH)%"));
        check("${http_x_user}!", Ok("%REQ(X-USER)%!"));
        check("$server_name-$proxy_host", Ok("a.example-app"));
        check("$upstream_addr $geoip_city", Err(&["$upstream_addr", "$geoip_city"]));
    }

    #[test]
    fn every_operator_is_one_that_naru_knows() {
        for (name, operator) in OPERATORS.iter().chain(OF_RESPONSES) {
            assert!(Format::parse(operator).is_ok(), "{name}: {operator}");
        }
    }
}
