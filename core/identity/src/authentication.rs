//! Which tokens a request has to show, and whether those that it shows are enough.
//!
//! What is asked of a request is a tree ([`JwtRequirement`]). [`Authentication::decide`] walks it with what is
//! known of the request's tokens; at the first that nobody has read yet it asks, and once that is answered it is
//! asked again from the beginning. Nothing else changes meanwhile, so that each walk goes further than the one
//! before, and there are no more of them than tokens in the request times providers.
//!
//! Of one provider, all tokens in its places have to be valid: a good one beside a bad one might have an upstream
//! believe the bad one. Source: Envoy, `authenticator.cc`, `verifier.cc`.

use std::borrow::Cow;
use std::sync::Arc;

use http::HeaderMap;
use naru_base::Json;
use naru_route::{Subject, Table, Verdict as Found};
use naru_spec::{
    Action, DirectResponse, Domain, HeaderOps, Invalid, Jwt, JwtRequirement, JwtRule, RouteTable, Rule,
    TlsRequirement, VirtualHost,
};

use crate::denial::Denial;
use crate::identified::{Identified, Token};
use crate::places::{Kind as TokenPlace, Places, without};
use crate::provider::{Accepted, Provider};

/// What the requests of a chain have to show.
#[derive(Debug)]
pub struct Authentication {
    providers: Box<[Provider]>,
    /// Its rules are those of the settings, by their index.
    rules: Option<Table>,
    requires: Box<[Requires]>,
    bypass_cors_preflight: bool,
    pub strip_failure_response: bool,
}

/// A requirement, each of whose leaves has a number of its own.
#[derive(Debug)]
enum Requires {
    Nothing,
    Tokens(Box<Leaf>),
    Any { of: Vec<Requires>, allows_missing: bool, allows_failed: bool },
    All(Vec<Requires>),
}

/// Where tokens are looked for, and whose they may be.
#[derive(Debug)]
struct Leaf {
    number: u32,
    /// One provider; else whoever issued the token.
    provider: Option<usize>,
    audiences: Vec<String>,
    places: Places,
    /// Providers whose headers only a verified token may set.
    sanitizes: Vec<usize>,
    allows_missing: bool,
    allows_failed: bool,
}

/// What is known of the tokens of a request, by leaf and by its order in the request.
#[derive(Debug, Default)]
pub struct Known {
    answers: Vec<(u32, usize, Result<Verified, Denial>)>,
}

/// A token that was read, accepted and found to be signed.
#[derive(Clone, Debug)]
struct Verified {
    provider: usize,
    token: Arc<Token>,
}

/// A token that somebody has to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub token: String,
    leaf: u32,
    at: usize,
    /// The only provider that it may be of.
    provider: Option<usize>,
    audiences: Vec<String>,
    /// Whose tokens may stand where it stood.
    of_place: Vec<usize>,
}

/// What becomes of a request.
#[derive(Debug, PartialEq)]
pub enum Verdict {
    /// It goes on, and this is who it is from.
    Pass(Identified),
    Deny(Denial),
    /// Not known before this token is read: [`Known::learn`], then ask again.
    Ask(Box<Wanted>),
}

/// How far a walk came.
enum Outcome<'a> {
    Met(Vec<(&'a Leaf, usize, &'a Verified)>),
    Failed(Denial),
    Unknown(Box<Wanted>),
}

impl Authentication {
    /// # Errors
    /// Every rule that cannot be compiled, and names of providers that are not there.
    pub fn compile(said: &Jwt) -> Result<Authentication, Vec<Invalid>> {
        let problems = said.problems();
        if !problems.is_empty() {
            return Err(problems);
        }
        let providers: Box<[Provider]> = said.providers.iter().map(Provider::compile).collect();
        let rules = (!said.rules.is_empty()).then(|| table(&said.rules)).transpose()?;
        let mut builder = Builder { providers: &providers, leaves: 0 };
        let requires = said.rules.iter().map(|rule| builder.build(&rule.requires)).collect();
        Ok(Authentication {
            requires,
            rules,
            bypass_cors_preflight: said.bypass_cors_preflight,
            strip_failure_response: said.strip_failure_response,
            providers,
        })
    }

    /// A query without the tokens in it, whatever they are worth: nobody is to read them in a log.
    pub fn hidden(&self, query: &str) -> String {
        let places = self.places();
        without(query, |name| {
            places.iter().any(|place| matches!(place, TokenPlace::Param(known) if known == name))
        })
    }

    /// Whether it is asked for nothing, as browsers ask so before they ask.
    pub fn is_bypassed(&self, subject: &Subject<'_>) -> bool {
        self.bypass_cors_preflight && is_preflight(subject)
    }

    /// Takes away what only a verified token may say, whoever's it is.
    pub fn sanitize(&self, headers: &mut HeaderMap) {
        self.providers.iter().for_each(|provider| provider.sanitize(headers));
    }

    /// Which rule takes a request; `None`: it is asked for nothing.
    pub fn rule(&self, subject: &Subject<'_>) -> Option<usize> {
        if self.is_bypassed(subject) {
            return None;
        }
        match self.rules.as_ref()?.find(subject, &mut ()) {
            Found::Rule { rule, .. } => Some(rule.index()),
            Found::NoVirtualHost
            | Found::NoRule { .. }
            | Found::ServerOptions { .. }
            | Found::RequiresTls { .. } => None,
        }
    }

    /// What is to be done with a request of this rule, by what is known of its tokens. Where it passes, its headers
    /// are changed, and with a token in a parameter its query, too: to what is returned in `query`.
    pub fn decide(
        &self,
        rule: usize,
        known: &Known,
        headers: &mut HeaderMap,
        query: &mut Option<String>,
    ) -> Verdict {
        let Some(requires) = self.requires.get(rule) else { return Verdict::Pass(Identified::default()) };
        let shown = match self.walk(requires, known, headers, query.as_deref()) {
            Outcome::Met(shown) => shown,
            Outcome::Failed(denial) => return Verdict::Deny(denial),
            Outcome::Unknown(wanted) => return Verdict::Ask(wanted),
        };
        let mut identified = Identified::default();
        requires.each_leaf(&mut |leaf| {
            leaf.sanitizes
                .iter()
                .filter_map(|at| self.providers.get(*at))
                .for_each(|one| one.sanitize(headers));
        });
        for (leaf, place, verified) in shown {
            let Some(provider) = self.providers.get(verified.provider) else { continue };
            provider.tell(&verified.token, headers);
            identified.is_somebody = true;
            identified.reroutes |= provider.reroutes;
            if !provider.forward
                && let Some(rest) = leaf.places.remove(place, headers, query.as_deref())
            {
                *query = Some(rest);
            }
            if !provider.claims_name.is_empty() {
                identified.add(&provider.claims_name, provider.normalized(&verified.token));
            }
        }
        Verdict::Pass(identified)
    }

    fn walk<'a>(
        &self,
        requires: &'a Requires,
        known: &'a Known,
        headers: &HeaderMap,
        query: Option<&str>,
    ) -> Outcome<'a> {
        match requires {
            Requires::Nothing => Outcome::Met(Vec::new()),
            Requires::Tokens(leaf) => leaf.walk(known, headers, query),
            Requires::All(list) => {
                let mut shown = Vec::new();
                for inner in list {
                    match self.walk(inner, known, headers, query) {
                        Outcome::Met(mut more) => shown.append(&mut more),
                        other => return other,
                    }
                }
                Outcome::Met(shown)
            }
            Requires::Any { of, allows_missing, allows_failed } => {
                // That a token is missing, or another's, says less than any other fault.
                let mut last = Denial::Missing;
                for inner in of {
                    match self.walk(inner, known, headers, query) {
                        Outcome::Failed(denial) => {
                            let says_more = !matches!(denial, Denial::Missing | Denial::UnknownIssuer);
                            if says_more || last == Denial::Missing {
                                last = denial;
                            }
                        }
                        other => return other,
                    }
                }
                if *allows_failed || (*allows_missing && last == Denial::Missing) {
                    return Outcome::Met(Vec::new());
                }
                Outcome::Failed(last)
            }
        }
    }

    /// Whether what a token claims is accepted, and whose keys must have signed it. `now` in seconds since 1970.
    pub fn accept(&self, wanted: &Wanted, claims: &Json, now: i64) -> Result<Accepted, Denial> {
        let issuer = claims.get("iss").and_then(Json::as_text).unwrap_or("");
        let takes = |at: &usize| self.providers.get(*at).is_some_and(|known| known.takes_issuer(issuer));
        if !wanted.of_place.iter().any(takes) {
            return Err(Denial::UnknownIssuer);
        }
        let by_issuer = || {
            let is_named = |known: &Provider| known.issuer.as_deref() == Some(issuer);
            let named = self.providers.iter().position(is_named);
            named.or_else(|| self.providers.iter().position(|known| known.issuer.is_none()))
        };
        let provider = wanted.provider.or_else(by_issuer).ok_or(Denial::UnknownIssuer)?;
        let known = self.providers.get(provider).ok_or(Denial::UnknownIssuer)?;
        known.accept(claims, &wanted.audiences, now)?;
        Ok(Accepted { provider })
    }

    /// Where tokens are looked for, by whichever rule; each once.
    pub fn places(&self) -> Vec<TokenPlace> {
        let mut found: Vec<TokenPlace> = Vec::new();
        for requires in &self.requires {
            requires.each_leaf(&mut |leaf| found.extend(leaf.places.kinds().cloned()));
        }
        found.sort();
        found.dedup();
        found
    }

    /// The issuer that tokens of that place have to name, where there is one; the first of several.
    pub fn issuer_of(&self, wanted: &Wanted) -> Option<&str> {
        let known = wanted.provider.as_ref().or(wanted.of_place.first())?;
        self.providers.get(*known)?.issuer.as_deref()
    }

    /// What a provider is called.
    pub fn provider_name(&self, provider: usize) -> &str {
        self.providers.get(provider).map_or("", |known| &known.name)
    }
}

impl Known {
    /// What somebody has found out of a token.
    pub fn learn(&mut self, wanted: &Wanted, answer: Result<(Accepted, Arc<Token>), Denial>) {
        let answer = answer.map(|(accepted, token)| Verified { provider: accepted.provider, token });
        self.answers.push((wanted.leaf, wanted.at, answer));
    }

    fn of(&self, leaf: u32, at: usize) -> Option<&Result<Verified, Denial>> {
        self.answers.iter().find(|(of, place, _)| (*of, *place) == (leaf, at)).map(|(_, _, answer)| answer)
    }
}

impl Leaf {
    /// From the last token to the first, as Envoy does.
    fn walk<'a>(&'a self, known: &'a Known, headers: &HeaderMap, query: Option<&str>) -> Outcome<'a> {
        let found = self.places.find(headers, query);
        if found.is_empty() {
            let is_met = self.allows_missing || self.allows_failed;
            return if is_met { Outcome::Met(Vec::new()) } else { Outcome::Failed(Denial::Missing) };
        }
        let mut shown = Vec::new();
        for (at, found) in found.into_iter().enumerate().rev() {
            match known.of(self.number, at) {
                Some(Ok(verified)) => shown.push((self, found.place, verified)),
                Some(Err(_)) if self.allows_failed => {}
                Some(Err(denial)) => return Outcome::Failed(*denial),
                None => {
                    let of_place = self.places.get(found.place).map(|place| place.of.clone());
                    return Outcome::Unknown(Box::new(Wanted {
                        token: Cow::into_owned(found.token),
                        leaf: self.number,
                        at,
                        provider: self.provider,
                        audiences: self.audiences.clone(),
                        of_place: of_place.unwrap_or_default(),
                    }));
                }
            }
        }
        Outcome::Met(shown)
    }
}

impl Requires {
    fn each_leaf(&self, visit: &mut impl FnMut(&Leaf)) {
        match self {
            Requires::Nothing => {}
            Requires::Tokens(leaf) => visit(leaf),
            Requires::Any { of, .. } | Requires::All(of) => {
                of.iter().for_each(|inner| inner.each_leaf(visit))
            }
        }
    }
}

struct Builder<'a> {
    providers: &'a [Provider],
    leaves: u32,
}

impl Builder<'_> {
    fn build(&mut self, said: &JwtRequirement) -> Requires {
        match said {
            JwtRequirement::Nothing => Requires::Nothing,
            JwtRequirement::Provider { name, audiences } => {
                let at = self.providers.iter().position(|known| known.name == *name);
                self.leaf(at, audiences.clone(), false, false)
            }
            JwtRequirement::AllowMissing => self.leaf(None, Vec::new(), true, false),
            JwtRequirement::AllowMissingOrFailed => self.leaf(None, Vec::new(), true, true),
            JwtRequirement::All(list) => Requires::All(list.iter().map(|inner| self.build(inner)).collect()),
            JwtRequirement::Any(list) => {
                let allows_missing = list.contains(&JwtRequirement::AllowMissing);
                let allows_failed = list.contains(&JwtRequirement::AllowMissingOrFailed);
                let is_leave = |said: &&JwtRequirement| {
                    matches!(said, JwtRequirement::AllowMissing | JwtRequirement::AllowMissingOrFailed)
                };
                let of: Vec<_> =
                    list.iter().filter(|said| !is_leave(said)).map(|said| self.build(said)).collect();
                // Tokens are looked at all the same.
                if of.is_empty() && (allows_missing || allows_failed) {
                    return self.leaf(None, Vec::new(), true, allows_failed);
                }
                Requires::Any { of, allows_missing, allows_failed }
            }
        }
    }

    fn leaf(
        &mut self,
        provider: Option<usize>,
        audiences: Vec<String>,
        allows_missing: bool,
        allows_failed: bool,
    ) -> Requires {
        let of: Vec<usize> = match provider {
            Some(at) => vec![at],
            None => (0..self.providers.len()).collect(),
        };
        let kinds = of.iter().filter_map(|at| Some((*at, self.providers.get(*at)?)));
        let kinds = kinds.flat_map(|(at, known)| known.kinds.iter().map(move |kind| (kind.clone(), at)));
        let places = Places::of(kinds);
        self.leaves += 1;
        let number = self.leaves;
        Requires::Tokens(Box::new(Leaf {
            number,
            provider,
            audiences,
            places,
            sanitizes: of,
            allows_missing,
            allows_failed,
        }))
    }
}

/// The rules as a table of routes, so that what they match is what routes match.
fn table(rules: &[JwtRule]) -> Result<Table, Vec<Invalid>> {
    let as_rule = |rule: &JwtRule| Rule {
        name: String::new(),
        origin: String::new(),
        matches: vec![rule.matches.clone()],
        action: Action::Direct(Box::new(DirectResponse { status: http::StatusCode::OK, body: Vec::new() })),
        request_headers: HeaderOps::default(),
        response_headers: HeaderOps::default(),
        gate: Vec::new(),
    };
    let host = VirtualHost {
        name: String::new(),
        domains: vec![Domain::Any],
        rules: rules.iter().map(as_rule).collect(),
        tls: TlsRequirement::None,
        request_headers: HeaderOps::default(),
        response_headers: HeaderOps::default(),
    };
    let table = RouteTable { virtual_hosts: vec![host], ..RouteTable::default() };
    Table::compile(&table, &|_| None).map_err(|found| found.into_iter().map(|(_, invalid)| invalid).collect())
}

/// A browser asks whether it may ask (Fetch, section 3.2.2).
fn is_preflight(subject: &Subject<'_>) -> bool {
    let says = |name: &str| subject.headers.get(name).is_some_and(|value| !value.is_empty());
    subject.method == http::Method::OPTIONS && says("origin") && says("access-control-request-method")
}
