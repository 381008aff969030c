//! One thing that a policy asks, compiled. Envoy's `filters/common/rbac/matchers.cc`.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use naru_base::{Json, WallTime};
use naru_condition::{Condition, Facts};
use naru_route::{ClaimTest, HeaderTests, Subject, TextTest};
use naru_spec::{AuthTest, Invalid, StringMatch};

use crate::identified::Identified;
use crate::template::Template;

/// Who asks, and where.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    /// `None` of a connection that is not HTTP.
    pub request: Option<&'a Subject<'a>>,
    /// Who is connected.
    pub peer: IpAddr,
    /// The client, as far as it can be trusted; its port is 0 where it came from a header.
    pub remote: SocketAddr,
    /// Where the connection came to.
    pub local: SocketAddr,
    pub is_tls: bool,
    /// The client has shown a certificate.
    pub is_certified: bool,
    /// `HTTP/1.1`.
    pub protocol: &'a str,
    /// What the client asked for by TLS.
    pub server_name: Option<&'a str>,
    /// Of the certificate that the client has shown.
    pub names: Option<&'a Names>,
    pub identified: &'a Identified,
    /// What the login session claims.
    pub session: Option<&'a Json>,
    /// When it is asked.
    pub now: WallTime,
}

impl Asker<'_> {
    /// Whether a condition holds. Nothing where that cannot be told.
    pub(crate) fn holds(&self, condition: &Condition) -> Option<bool> {
        let request = self.request?;
        let tokens: Vec<_> = self.identified.all().collect();
        let names = self.names;
        condition
            .holds(&Facts {
                method: request.method.as_str(),
                authority: request.authority,
                path: request.path,
                query: request.query,
                scheme: request.scheme.as_str(),
                protocol: self.protocol,
                headers: request.headers,
                time: self.now,
                source: self.remote,
                destination: self.local,
                is_tls: self.is_tls,
                is_certified: self.is_certified,
                subject: names.map(|names| names.subject.as_str()).filter(|subject| !subject.is_empty()),
                uri: names.and_then(|names| names.uris.first()).map(String::as_str),
                dns: names.and_then(|names| names.dns.first()).map(String::as_str),
                server_name: self.server_name,
                tokens: &tokens,
                session: self.session,
            })
            .ok()
    }
}

/// The names of a client's certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    pub uris: Vec<String>,
    pub dns: Vec<String>,
    pub subject: String,
}

/// A test, ready to be asked.
#[derive(Debug)]
pub(crate) enum Test {
    Always,
    All(Box<[Test]>),
    Any(Box<[Test]>),
    Not(Box<Test>),
    Header(HeaderTests),
    Method(TextTest),
    Authority(TextTest),
    Path(TextTest),
    PathTemplate(Template),
    DestinationIp(IpNet),
    DestinationPorts(u32, u32),
    ServerName(TextTest),
    Tls,
    Authenticated(TextTest),
    PeerIp(IpNet),
    RemoteIp(IpNet),
    Claim(ClaimTest),
}

impl Test {
    pub fn compile(said: &AuthTest, problems: &mut Vec<Invalid>) -> Test {
        let text = |said: &StringMatch, problems: &mut Vec<Invalid>, make: fn(TextTest) -> Test| {
            TextTest::compile(said).map_or_else(
                |invalid| {
                    problems.push(invalid);
                    Test::Always
                },
                make,
            )
        };
        match said {
            AuthTest::Always => Test::Always,
            AuthTest::All(list) => Test::All(list.iter().map(|said| Test::compile(said, problems)).collect()),
            AuthTest::Any(list) => Test::Any(list.iter().map(|said| Test::compile(said, problems)).collect()),
            AuthTest::Not(said) => Test::Not(Box::new(Test::compile(said, problems))),
            AuthTest::Header(said) => match HeaderTests::compile(std::slice::from_ref(said)) {
                Ok(tests) => Test::Header(tests),
                Err(found) => {
                    problems.extend(found);
                    Test::Always
                }
            },
            AuthTest::Method(said) => text(said, problems, Test::Method),
            AuthTest::Authority(said) => text(said, problems, Test::Authority),
            AuthTest::Path(said) => text(said, problems, Test::Path),
            AuthTest::PathTemplate(said) => match Template::parse(said) {
                Ok(template) => Test::PathTemplate(template),
                Err(invalid) => {
                    problems.push(invalid);
                    Test::Always
                }
            },
            AuthTest::DestinationIp(net) => Test::DestinationIp(*net),
            AuthTest::DestinationPorts(first, end) => Test::DestinationPorts(*first, *end),
            AuthTest::ServerName(said) => text(said, problems, Test::ServerName),
            AuthTest::Authenticated(None) => Test::Tls,
            AuthTest::Authenticated(Some(said)) => text(said, problems, Test::Authenticated),
            AuthTest::PeerIp(net) => Test::PeerIp(*net),
            AuthTest::RemoteIp(net) => Test::RemoteIp(*net),
            AuthTest::Claim(said) => match ClaimTest::compile(said) {
                Ok(test) => Test::Claim(test),
                Err(found) => {
                    problems.extend(found);
                    Test::Always
                }
            },
        }
    }

    pub fn holds(&self, asker: &Asker<'_>) -> bool {
        match self {
            Test::Always => true,
            Test::All(tests) => tests.iter().all(|test| test.holds(asker)),
            Test::Any(tests) => tests.iter().any(|test| test.holds(asker)),
            Test::Not(test) => !test.holds(asker),
            Test::Header(tests) => asker.request.is_some_and(|request| tests.all(request.headers)),
            Test::Method(test) => {
                asker.request.is_some_and(|request| test.is_match(request.method.as_str().as_bytes()))
            }
            Test::Authority(test) => {
                asker.request.is_some_and(|request| test.is_match(request.authority.as_bytes()))
            }
            Test::Path(test) => asker.request.is_some_and(|request| test.is_match(request.path.as_bytes())),
            Test::PathTemplate(test) => asker.request.is_some_and(|request| test.is_match(request.path)),
            Test::DestinationIp(net) => contains(net, asker.local.ip()),
            Test::DestinationPorts(first, end) => (*first..*end).contains(&u32::from(asker.local.port())),
            Test::ServerName(test) => test.is_match(asker.server_name.unwrap_or("").as_bytes()),
            Test::Tls => asker.is_tls,
            Test::Authenticated(test) => asker.is_tls && is_named(test, asker.names),
            Test::PeerIp(net) => contains(net, asker.peer),
            Test::RemoteIp(net) => contains(net, asker.remote.ip()),
            Test::Claim(test) => test.holds(Some(asker.identified)),
        }
    }
}

/// One whose certificate has no name at all is called nothing, which a pattern may take.
fn is_named(test: &TextTest, names: Option<&Names>) -> bool {
    let Some(names) = names else { return test.is_match(b"") };
    let mut all = names.uris.iter().chain(&names.dns);
    all.any(|name| test.is_match(name.as_bytes())) || test.is_match(names.subject.as_bytes())
}

/// Of whatever spelling the address is.
fn contains(net: &IpNet, address: IpAddr) -> bool {
    net.contains(&address.to_canonical()) || net.contains(&address)
}
