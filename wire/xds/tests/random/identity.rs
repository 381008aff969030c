//! Random checks: who asks, what they may.

use std::time::Duration;

use naru_spec::{
    AuthTest, Cel, CelCall, CelFold, CelSelect, Check, CheckKind, ClaimHeader, ClaimMatch, DataSource, Gate,
    Jwt, JwtHeader, JwtKeys, JwtProvider, JwtRequirement, JwtRule, Match, PathMatch, Rbac, RbacAction,
    RbacPolicy, RbacRules, RemoteKeys, ValueMatch,
};

use super::Dice;

impl Dice {
    pub(super) fn gate(&mut self, clusters: &[String]) -> Gate {
        let mut gate = Gate::default();
        if self.coin() {
            let kind = CheckKind::Jwt(Box::new(self.jwt(clusters)));
            gate.checks.push(Check { name: "envoy.filters.http.jwt_authn".into(), kind });
        }
        for _ in 0..self.below(2) {
            gate.checks.push(self.policies("envoy.filters.http.rbac"));
        }
        gate.checks.extend(self.maybe(Dice::compressor));
        gate.checks.extend(self.maybe(Dice::decompressor));
        gate
    }

    pub(super) fn policies(&mut self, name: &str) -> Check {
        let kind = CheckKind::Rbac(Box::new(Rbac {
            rules: self.maybe(Dice::rules),
            shadow: self.maybe(Dice::rules),
            shadow_prefix: self.one(&["", "dry_run_"]).to_owned(),
        }));
        Check { name: name.into(), kind }
    }

    fn jwt(&mut self, clusters: &[String]) -> Jwt {
        // By name, as they are read.
        let providers: Vec<_> =
            (0..1 + self.below(2)).map(|at| self.provider(&format!("provider-{at}"), clusters)).collect();
        let names: Vec<_> = providers.iter().map(|provider| provider.name.clone()).collect();
        let rules = self.few(|dice| JwtRule {
            matches: Match { path: PathMatch::Prefix("/a".into()), ..Match::default() },
            requires: dice.requirement(&names, 2),
        });
        let named = vec![("named".to_owned(), self.requirement(&names, 2))];
        let (bypass_cors_preflight, strip_failure_response) = (self.coin(), self.coin());
        Jwt { providers, rules, named, bypass_cors_preflight, strip_failure_response }
    }

    fn provider(&mut self, name: &str, clusters: &[String]) -> JwtProvider {
        let keys = if clusters.is_empty() || self.coin() {
            JwtKeys::Local(
                self.one(&[DataSource::Inline(b"{\"keys\":[]}".to_vec()), DataSource::File("/k".into())]),
            )
        } else {
            JwtKeys::Remote(RemoteKeys {
                uri: "https://issuer.example/keys".into(),
                cluster: self.one(clusters),
                timeout: Duration::from_secs(self.one(&[1, 7])),
                cache: Duration::from_secs(self.one(&[60, 600])),
            })
        };
        JwtProvider {
            issuer: self.maybe(Dice::word).filter(|issuer| !issuer.is_empty()),
            audiences: self.few(Dice::word),
            forward: self.coin(),
            from_headers: self
                .few(|dice| JwtHeader { name: dice.name(), prefix: dice.one(&["", "Bearer "]).into() }),
            from_params: self.few(Dice::token),
            from_cookies: self.few(Dice::token),
            payload_header: self.maybe(Dice::name),
            pads_payload: self.coin(),
            claim_headers: self.few(|dice| ClaimHeader { header: dice.name(), claim: "a.b".into() }),
            clock_skew: Duration::from_secs(self.one(&[60, 1])),
            claims_name: self.one(&["", "payload"]).to_owned(),
            spaced_claims: self.few(Dice::token),
            requires_expiry: self.coin(),
            reroutes: self.coin(),
            lifetime_max: self.maybe(|dice| Duration::from_secs(dice.one(&[60, 3_600]))),
            ..JwtProvider::new(name, "", keys)
        }
    }

    fn requirement(&mut self, names: &[String], depth: u32) -> JwtRequirement {
        match self.below(if depth == 0 { 5 } else { 7 }) {
            0 => JwtRequirement::AllowMissing,
            1 => JwtRequirement::AllowMissingOrFailed,
            2 => JwtRequirement::Nothing,
            3 => JwtRequirement::Provider { name: self.one(names), audiences: Vec::new() },
            4 => JwtRequirement::Provider { name: self.one(names), audiences: vec!["a".into()] },
            5 => JwtRequirement::Any((0..2).map(|_| self.requirement(names, depth - 1)).collect()),
            _ => JwtRequirement::All((0..2).map(|_| self.requirement(names, depth - 1)).collect()),
        }
    }

    pub(super) fn rules(&mut self) -> RbacRules {
        let policies = (0..self.below(3)).map(|at| RbacPolicy {
            name: format!("policy-{at}"),
            origin: String::new(),
            permissions: vec![self.permission(2)],
            principals: vec![self.principal(2)],
            condition: self.condition(),
        });
        let policies = policies.collect();
        RbacRules { action: self.one(&[RbacAction::Allow, RbacAction::Deny, RbacAction::Log]), policies }
    }

    fn condition(&mut self) -> Option<Cel> {
        self.maybe(|dice| {
            let path = Cel::select(Cel::Ident("request".into()), "path");
            let list = Cel::List(vec![Cel::Text(dice.word()), Cel::Text(dice.token())]);
            let one = Cel::call("@in", vec![path.clone(), list]);
            let map = Cel::Map(vec![(Cel::Text("a".into()), Cel::Double(1.5)), (Cel::Bool(true), Cel::Null)]);
            let number = Cel::Int(dice.below(9) as i64 - 4);
            let other = match dice.below(4) {
                0 => Cel::call("_<_", vec![Cel::call("size", vec![map]), number]),
                1 => {
                    Cel::call("_==_", vec![Cel::Bytes(vec![0, 255]), Cel::Bytes(vec![dice.below(256) as u8])])
                }
                2 => Cel::Select(Box::new(CelSelect {
                    of: Cel::select(Cel::Ident("request".into()), "headers"),
                    field: dice.token(),
                    tests: true,
                })),
                _ => Cel::Fold(Box::new(CelFold {
                    item: "x".into(),
                    over: Cel::List(vec![Cel::Uint(7)]),
                    kept: "all".into(),
                    first: Cel::Bool(true),
                    goes_on: Cel::Ident("all".into()),
                    step: Cel::call("_==_", vec![Cel::Ident("x".into()), Cel::Uint(dice.below(9))]),
                    result: Cel::Ident("all".into()),
                })),
            };
            let starts = Cel::Call(Box::new(CelCall {
                target: Some(path),
                function: "startsWith".into(),
                args: vec![Cel::Text("/".into())],
            }));
            Cel::call("_&&_", vec![Cel::call("_||_", vec![one, other]), starts])
        })
    }

    fn permission(&mut self, depth: u32) -> AuthTest {
        match self.below(if depth == 0 { 9 } else { 12 }) {
            0 => AuthTest::Path(self.string_match()),
            1 => AuthTest::PathTemplate("/a/*/**".into()),
            2 => AuthTest::DestinationIp(self.network()),
            3 => AuthTest::DestinationPorts(80, 81),
            4 => AuthTest::DestinationPorts(0, 65_536),
            5 => AuthTest::ServerName(self.string_match()),
            6 => AuthTest::Method(self.string_match()),
            7 => AuthTest::Header(self.header_match()),
            8 => self.claim(),
            9 => AuthTest::Not(Box::new(self.permission(depth - 1))),
            10 => AuthTest::All((0..2).map(|_| self.permission(depth - 1)).collect()),
            _ => AuthTest::Any((0..2).map(|_| self.permission(depth - 1)).collect()),
        }
    }

    fn principal(&mut self, depth: u32) -> AuthTest {
        match self.below(if depth == 0 { 8 } else { 11 }) {
            0 => AuthTest::Always,
            1 => AuthTest::Authenticated(None),
            2 => AuthTest::Authenticated(Some(self.string_match())),
            3 => AuthTest::PeerIp(self.network()),
            4 => AuthTest::RemoteIp(self.network()),
            5 => AuthTest::Authority(self.string_match()),
            6 => AuthTest::Path(self.string_match()),
            7 => self.claim(),
            8 => AuthTest::Not(Box::new(self.principal(depth - 1))),
            9 => AuthTest::All((0..2).map(|_| self.principal(depth - 1)).collect()),
            _ => AuthTest::Any((0..2).map(|_| self.principal(depth - 1)).collect()),
        }
    }

    fn claim(&mut self) -> AuthTest {
        AuthTest::Claim(self.claim_match())
    }

    pub(super) fn claim_match(&mut self) -> ClaimMatch {
        ClaimMatch {
            claims_name: "payload".into(),
            path: (0..1 + self.below(2)).map(|_| self.token()).collect(),
            test: self.value_match(2),
            invert: self.coin(),
        }
    }

    fn value_match(&mut self, depth: u32) -> ValueMatch {
        match self.below(if depth == 0 { 6 } else { 8 }) {
            0 => ValueMatch::Null,
            1 => ValueMatch::Present(true),
            2 => ValueMatch::Bool(self.coin()),
            3 => ValueMatch::Text(self.string_match()),
            4 => ValueMatch::Number(-1.5),
            5 => ValueMatch::Range(0.0, 7.25),
            6 => ValueMatch::OneOf(Box::new(self.value_match(depth - 1))),
            _ => ValueMatch::Any((0..2).map(|_| self.value_match(depth - 1)).collect()),
        }
    }
}
