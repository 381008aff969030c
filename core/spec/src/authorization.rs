//! Who may do what: Envoy's `rbac` filters, which Istio's `AuthorizationPolicy` becomes.

use ipnet::IpNet;

use crate::{Cel, HeaderMatch, StringMatch};

/// What is asked of a request, or of a connection.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Rbac {
    /// `None` asks nothing.
    pub rules: Option<RbacRules>,
    /// Only told what they would have said.
    pub shadow: Option<RbacRules>,
    /// Before the names of what is counted of the shadow.
    pub shadow_prefix: String,
}

#[derive(Clone, Debug, PartialEq)]
pub struct RbacRules {
    pub action: RbacAction,
    /// By their names; the first that holds is the one that is told.
    pub policies: Vec<RbacPolicy>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RbacAction {
    /// Who no policy is for is refused.
    Allow,
    /// Who a policy is for is refused.
    Deny,
    /// Nobody is refused.
    Log,
}

/// For requests for which one of the permissions holds, and one of the principals, and the condition, if there is one.
#[derive(Clone, Debug, PartialEq)]
pub struct RbacPolicy {
    pub name: String,
    /// Where it is written: `file:line:column`. Empty where nobody knows.
    pub origin: String,
    pub permissions: Vec<AuthTest>,
    pub principals: Vec<AuthTest>,
    /// Where it cannot be told whether it holds, it does for a policy that refuses, and does not for any other.
    pub condition: Option<Cel>,
}

/// One thing that holds or does not.
#[derive(Clone, Debug, PartialEq)]
pub enum AuthTest {
    Always,
    /// None at all holds.
    All(Vec<AuthTest>),
    /// None at all does not hold.
    Any(Vec<AuthTest>),
    Not(Box<AuthTest>),
    Header(HeaderMatch),
    Method(StringMatch),
    /// Of the Host, as sent.
    Authority(StringMatch),
    /// Of the path without its query.
    Path(StringMatch),
    /// `*` is a segment, `**` at the end is all that follows.
    PathTemplate(String),
    /// Where the connection came to.
    DestinationIp(IpNet),
    /// From, and up to but not with.
    DestinationPorts(u32, u32),
    ServerName(StringMatch),
    /// A name of the client's certificate; `None`: the connection is one of TLS.
    Authenticated(Option<StringMatch>),
    /// Of who is connected.
    PeerIp(IpNet),
    /// Of the client, as far as it can be trusted.
    RemoteIp(IpNet),
    /// A claim of a token that was verified.
    Claim(ClaimMatch),
}

/// A test of what a token claims.
#[derive(Clone, Debug, PartialEq)]
pub struct ClaimMatch {
    /// What the provider calls its claims.
    pub claims_name: String,
    /// Names within each other. Empty means the claims themselves.
    pub path: Vec<String>,
    pub test: ValueMatch,
    pub invert: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub enum ValueMatch {
    Null,
    /// It is there; `false` is never so.
    Present(bool),
    Bool(bool),
    Text(StringMatch),
    Number(f64),
    /// From, and up to but not with.
    Range(f64, f64),
    /// It is a list, and this holds for one of its values.
    OneOf(Box<ValueMatch>),
    Any(Vec<ValueMatch>),
}

impl AuthTest {
    /// Whether it can be asked of a connection that is not HTTP.
    pub fn is_of_connections(&self) -> bool {
        match self {
            AuthTest::All(tests) | AuthTest::Any(tests) => tests.iter().all(AuthTest::is_of_connections),
            AuthTest::Not(test) => test.is_of_connections(),
            AuthTest::Always
            | AuthTest::DestinationIp(_)
            | AuthTest::DestinationPorts(..)
            | AuthTest::ServerName(_)
            | AuthTest::Authenticated(_)
            | AuthTest::PeerIp(_)
            | AuthTest::RemoteIp(_) => true,
            AuthTest::Header(_)
            | AuthTest::Method(_)
            | AuthTest::Authority(_)
            | AuthTest::Path(_)
            | AuthTest::PathTemplate(_)
            | AuthTest::Claim(_) => false,
        }
    }
}
