//! What does a line of an access log say of its request?

use std::net::{IpAddr, SocketAddr};

use naru_spec::defaults::ACCESS_LOG_FORMAT;
use naru_spec::{Format, Operator};
use serde_json::Value;

use crate::up_command::{LOG_FORMAT, LOG_FORMAT_BEFORE};

/// A request, as far as a line tells of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Logged {
    pub method: String,
    pub host: String,
    pub target: String,
    /// In lower case.
    pub headers: Vec<(String, String)>,
    pub source: Option<IpAddr>,
    /// The port that it came to.
    pub port: Option<u16>,
    pub is_tls: bool,
    pub id: Option<String>,
}

/// Reads lines of the formats that are known.
#[derive(Debug)]
pub struct Reader {
    formats: Vec<Format>,
}

impl Reader {
    /// Beside naru's own format, Envoy's, and objects of JSON: one that somebody says.
    pub fn new(format: Option<Format>) -> Reader {
        let known = [LOG_FORMAT, LOG_FORMAT_BEFORE, ACCESS_LOG_FORMAT];
        let known = known.into_iter().filter_map(|text| Format::parse(text).ok());
        Reader { formats: format.into_iter().chain(known).collect() }
    }

    /// `None` where the line tells of no request.
    pub fn read(&self, line: &str) -> Option<Logged> {
        let line = line.trim_end_matches(['\n', '\r']);
        if line.starts_with('{') {
            return of_json(line);
        }
        self.formats.iter().find_map(|format| of_text(format, line))
    }
}

fn of_text(format: &Format, line: &str) -> Option<Logged> {
    let mut logged = Logged::default();
    for (operator, value) in format.read(line)? {
        // What has no value is a dash.
        if value == "-" || value.is_empty() {
            continue;
        }
        match operator {
            Operator::RequestHeader { name, alternative } => {
                let names = [Some(name.as_str()), alternative.as_deref()];
                // Of two names only the path's alternative is known for certain.
                match names {
                    [_, Some(":path")] => logged.take(":path", value),
                    [Some(name), None] => logged.take(name, value),
                    _ => {}
                }
            }
            Operator::DownstreamRemoteAddress { .. } => logged.source = address(value),
            Operator::DownstreamDirectRemoteAddress { .. } => {
                logged.source = logged.source.or_else(|| address(value));
            }
            Operator::DownstreamLocalAddress { port: true } => {
                logged.port = value.parse().ok().map(|address: SocketAddr| address.port());
            }
            Operator::DownstreamLocalPort => logged.port = value.parse().ok(),
            Operator::DownstreamTlsVersion => logged.is_tls = true,
            _ => {}
        }
    }
    logged.checked()
}

fn address(text: &str) -> Option<IpAddr> {
    let of_socket = text.parse().ok().map(|address: SocketAddr| address.ip());
    of_socket.or_else(|| text.parse().ok())
}

/// An object, by the names that its fields most often have; headers may stand in an object of their own.
fn of_json(line: &str) -> Option<Logged> {
    let Value::Object(fields) = serde_json::from_str(line).ok()? else { return None };
    let mut logged = Logged::default();
    for (name, value) in &fields {
        let name = name.to_ascii_lowercase().replace('-', "_");
        if let ("headers" | "request_headers", Value::Object(headers)) = (name.as_str(), value) {
            for (name, value) in headers {
                if let Value::String(value) = value {
                    logged.take(&name.to_ascii_lowercase(), value);
                }
            }
            continue;
        }
        let text = match value {
            Value::String(text) if text != "-" => text.clone(),
            Value::Number(number) => number.to_string(),
            _ => continue,
        };
        match name.as_str() {
            "method" | "request_method" | ":method" => logged.take(":method", &text),
            "path" | "request_path" | ":path" | "target" | "uri" => logged.take(":path", &text),
            "authority" | "host" | ":authority" | "request_authority" => logged.take(":authority", &text),
            "scheme" => logged.take(":scheme", &text),
            "request_id" | "x_request_id" | "id" => logged.take("x-request-id", &text),
            "user_agent" => logged.take("user-agent", &text),
            "x_forwarded_for" => logged.take("x-forwarded-for", &text),
            "downstream_remote_address" | "client" | "source" => logged.source = address(&text),
            "downstream_local_address" | "local" => {
                logged.port = text.parse().ok().map(|address: SocketAddr| address.port());
            }
            "downstream_local_port" | "port" => logged.port = text.parse().ok(),
            "downstream_tls_version" | "tls_version" => logged.is_tls = true,
            _ => {}
        }
    }
    logged.checked()
}

impl Logged {
    fn take(&mut self, name: &str, value: &str) {
        match name {
            ":method" => value.clone_into(&mut self.method),
            ":path" => value.clone_into(&mut self.target),
            ":authority" | "host" => value.clone_into(&mut self.host),
            ":scheme" => self.is_tls |= value == "https",
            _ => {
                if name == "x-request-id" {
                    self.id = Some(value.to_owned());
                }
                self.headers.push((name.to_owned(), value.to_owned()));
            }
        }
    }

    fn checked(self) -> Option<Logged> {
        let is_request = !self.method.is_empty() && !self.target.is_empty() && self.method != "-";
        is_request.then_some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_every_known_format_tell_of_their_request() {
        let reader =
            Reader::new(Some(Format::parse("<%REQ(END-USER)%> %REQ(:METHOD)% %REQ(:PATH)%").unwrap()));
        let logged = |headers: &[(&str, &str)]| Logged {
            method: "GET".into(),
            host: "shop.test:8080".into(),
            target: "/a?b=1".into(),
            headers: headers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
            ..Logged::default()
        };
        let own = "2026-01-01T00:00:00.000Z 127.0.0.1:4000 \"GET shop.test:8080/a?b=1 HTTP/1.1\" 200 - 2ms \
                   outbound|80||a 127.0.0.1:5000 by 'all' at a.yaml:1:2\n";
        let source = Some([127, 0, 0, 1].into());
        assert_eq!(reader.read(own), Some(Logged { source, ..logged(&[]) }));
        let envoy = "[2026-01-01T00:00:00.000Z] \"GET /a?b=1 HTTP/1.1\" 200 - 0 5 2 1 \"-\" \"curl/8\" \"id-1\" \
                     \"shop.test:8080\" \"127.0.0.1:5000\"";
        let headers = [("user-agent", "curl/8"), ("x-request-id", "id-1")];
        assert_eq!(reader.read(envoy), Some(Logged { id: Some("id-1".into()), ..logged(&headers) }));
        let json =
            r#"{"method":"GET","path":"/a?b=1","authority":"shop.test:8080","headers":{"End-User":"jason"}}"#;
        assert_eq!(reader.read(json), Some(logged(&[("end-user", "jason")])));
        let said = Logged { host: String::new(), ..logged(&[("end-user", "jason")]) };
        assert_eq!(reader.read("<jason> GET /a?b=1"), Some(said));
        for other in ["", "{", "{}", "[1]", "reviews-0 | started", "{\"method\":3}", "GET /"] {
            assert_eq!(reader.read(other), None, "{other}");
        }
    }
}
