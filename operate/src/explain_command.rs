//! `naru explain`: where a request would go, and why.

mod gate;
mod otherwise;
#[cfg(test)]
mod tests;

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context as _, anyhow, bail};
use http::header::{HeaderName, HeaderValue};
use http::request::Parts;
use naru_base::Json;
use naru_journey::arrival::receive;
use naru_journey::edge::Peer;
use naru_journey::explain::{ExplainedGroup, Explainer, Explanation};
use naru_journey::{Arriving, ChainId, Snapshot, Worker, replay, tcp};
use naru_plan::{Client, Surroundings};
use naru_resource::Resources;
use naru_route::reference::Decision;
use naru_route::{Group, RuleId, Verdict, Why};
use naru_sim::asker::{Asker, SaidSession, SaidToken, claims_of};
use naru_sources::Texts;
use naru_spec::defaults::ADDRESSES_HOST;
use naru_spec::suggest::did_you_mean;
use naru_spec::{
    Action, Cluster, Config, Fallback, FallbackStep, Forward, Listener, RouteTable, Rule, SessionAuth,
    TcpProxy,
};
use serde_json::{Value, json};

use self::gate::{Said, Step, Walk};
use crate::check_command::{check_loaded, no_documents};
use crate::cli::{ExplainArgs, Failure, Output};
use crate::policies::{Documents, Policy, of_cluster, of_edge, of_gate, of_rule, of_session};
use crate::problems;
use crate::say::say;

pub fn run(args: &ExplainArgs) -> Result<(), Failure> {
    if let Some(admin) = &args.admin {
        return crate::asking::explain(admin, args);
    }
    let question = Question::of(args)?;
    let texts = Texts::read(&args.config)?;
    if texts.files.is_empty() {
        return Err(Failure::Usage(anyhow!(no_documents(&args.config))));
    }
    let loaded = texts.load();
    problems::tell_passed_over(&loaded.problems);
    // Of nothing, everything would be said to go to whoever has the address.
    if loaded.resources.names().is_empty() && !loaded.problems.iter().any(naru_spec::Problem::is_error) {
        return Err(Failure::Usage(anyhow!(
            "there is no document of Istio's, Kubernetes' or naru's kinds there"
        )));
    }
    let surroundings = surroundings(args.from.as_deref(), &loaded.resources)?;
    let checked = check_loaded(&loaded, &surroundings);
    let Some((config, snapshot)) = checked.compiled else {
        let of_file = |file: &str| texts.text(file);
        let errors: Vec<_> = checked.problems.into_iter().filter(naru_spec::Problem::is_error).collect();
        return Err(problems::refuse(&errors, &of_file, args.output));
    };
    let documents = Documents::new(loaded.resources);
    let answer = question.answer(&config, &snapshot, &documents)?;
    let answer = match args.output {
        Output::Text => answer.text,
        Output::Json => format!("{}\n", answer.json),
    };
    Ok(say(&answer)?)
}

/// A request that somebody might send.
#[derive(Clone, Debug)]
pub struct Question {
    pub method: http::Method,
    pub url: http::Uri,
    /// `name: value`
    pub headers: Vec<String>,
    pub source: std::net::IpAddr,
    /// Where it came in, where that is not what the URL says.
    pub port: Option<u16>,
    /// The listener that it came in by: `outbound/NAME.NAMESPACE`.
    pub from: Option<String>,
    /// Somebody else sent it: what proves who he is is not shown.
    pub is_recorded: bool,
    /// Whom it is from; nobody in particular where nothing is said.
    pub asker: Option<Asker>,
}

/// What [`replay::rank`] says of a gateway on the port that is asked about, and of one on another.
const ON_PORT: u8 = 0;
const ELSEWHERE: u8 = 2;

/// Headers that prove who somebody is.
const SECRET: [&str; 3] = ["authorization", "cookie", "proxy-authorization"];

/// What would happen to it.
pub struct Answer {
    pub text: String,
    pub json: Value,
    /// Where it comes in.
    pub listener: String,
    /// The clusters that it may go to.
    pub clusters: Vec<String>,
    /// Where the rule is written that takes it.
    pub origin: Option<String>,
}

impl Question {
    fn of(args: &ExplainArgs) -> anyhow::Result<Question> {
        let (Some(method), Some(url)) = (args.method.clone(), args.url.clone()) else {
            bail!("say the request: GET http://reviews:9080/path");
        };
        let (headers, source, asker) = (args.headers.clone(), args.source, asker(args)?);
        Ok(Question { method, url, headers, source, port: None, from: None, is_recorded: false, asker })
    }

    pub fn answer(
        &self,
        config: &Config,
        snapshot: &Snapshot,
        documents: &Documents,
    ) -> anyhow::Result<Answer> {
        let parts = request(self)?;
        let is_tls = self.url.scheme_str() == Some("https");
        let said = self.port.or(self.url.port_u16());
        let port = said.unwrap_or(if is_tls { 443 } else { 80 });
        let asked = Asked {
            parts,
            port,
            is_port_said: said.is_some(),
            is_tls,
            source: self.source,
            from: self.from.as_deref(),
            asker: self.asker.clone(),
        };
        let told = asked.find(config, snapshot, documents)?;
        let destinations = told.explanation.destinations.iter().filter(|(_, weight)| weight.0 > 0);
        let rule = match told.explanation.verdict {
            Verdict::Rule { rule, .. } => told.rule(rule),
            _ => None,
        };
        Ok(Answer {
            text: told.to_text(self),
            json: told.to_json(self),
            listener: told.listener.name.clone(),
            clusters: destinations.map(|(name, _)| name.clone()).collect(),
            origin: rule.map(|rule| rule.origin.clone()),
        })
    }
}

/// As many processes run as Deployments say; the workload that is said to call has its labels.
pub fn surroundings(from: Option<&str>, resources: &Resources) -> anyhow::Result<Surroundings> {
    let instances = naru_plan::pretended(resources);
    let mut surroundings = Surroundings { instances, ..Surroundings::default() };
    if let Some(name) = from {
        let (namespace, short) = name.split_once('/').unwrap_or(("default", name));
        let found = resources.deployments.iter().find(|deployment| {
            deployment.meta.name.value == short && deployment.meta.namespace() == namespace
        });
        let Some(deployment) = found else {
            let known: Vec<_> = resources.deployments.iter().map(|d| d.meta.name.value.as_str()).collect();
            bail!("there is no Deployment '{name}'; there are: {}", known.join(", "));
        };
        let labels = deployment.spec.template.meta.as_ref().map_or(Vec::new(), |meta| {
            meta.labels.iter().map(|(key, value)| (key.value.clone(), value.value.clone())).collect()
        });
        surroundings.clients = vec![Client {
            name: short.to_owned(),
            namespace: namespace.to_owned(),
            labels,
            ..Client::unnamed()
        }];
    }
    Ok(surroundings)
}

fn request(args: &Question) -> anyhow::Result<Parts> {
    let authority = args
        .url
        .authority()
        .ok_or_else(|| anyhow!("'{}' names no host: write http://reviews:9080/path", args.url))?;
    let (mut parts, ()) = http::Request::new(()).into_parts();
    parts.method = args.method.clone();
    parts.headers.insert(http::header::HOST, HeaderValue::from_str(authority.as_str())?);
    for header in &args.headers {
        let (name, value) = header
            .split_once(':')
            .with_context(|| format!("'{header}' is no header: write 'name: value'"))?;
        let name = HeaderName::from_bytes(name.trim().as_bytes())
            .with_context(|| format!("'{name}' cannot be the name of a header"))?;
        let value = HeaderValue::from_str(value.trim())
            .with_context(|| format!("'{value}' cannot be the value of a header"))?;
        // A host that is said stands above the URL's, as curl has it.
        if name == http::header::HOST {
            parts.headers.insert(name, value);
        } else {
            parts.headers.append(name, value);
        }
    }
    let target = args.url.path_and_query().cloned();
    parts.uri = target.unwrap_or_else(|| http::uri::PathAndQuery::from_static("/")).into();
    Ok(parts)
}

/// Whom it would be from; nobody in particular where nothing is said.
fn asker(args: &ExplainArgs) -> anyhow::Result<Option<Asker>> {
    let has_token = !args.claims.is_empty() || args.token.is_some();
    let has_session = !args.session.is_empty() || args.session_is.is_some();
    // The words are those of the options, which are those of the kinds.
    let word = |said: &Option<String>| said.clone().map(Value::String);
    let asker = Asker {
        token: match has_token {
            true => Some(SaidToken {
                claims: claims(&args.claims, "--as")?,
                is: word(&args.token).map(serde_json::from_value).transpose()?.unwrap_or_default(),
            }),
            false => None,
        },
        key: args.key.clone(),
        user: args.user.clone(),
        has_wrong_password: false,
        session: match has_session {
            true => Some(SaidSession {
                claims: claims(&args.session, "--session")?,
                is: word(&args.session_is).map(serde_json::from_value).transpose()?.unwrap_or_default(),
            }),
            false => None,
        },
    };
    Ok(Some(asker).filter(|asker| *asker != Asker::default()))
}

fn claims(said: &[String], option: &str) -> anyhow::Result<Json> {
    let mut members = serde_json::Map::new();
    for claim in said {
        let (name, value) = claim
            .split_once('=')
            .with_context(|| format!("'{claim}' is no claim: write {option} sub=alice"))?;
        let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()));
        members.insert(name.to_owned(), value);
    }
    Ok(claims_of(&Value::Object(members)))
}

/// One request that somebody might send.
struct Asked<'q> {
    parts: Parts,
    port: u16,
    /// And not only that of the scheme.
    is_port_said: bool,
    is_tls: bool,
    source: std::net::IpAddr,
    asker: Option<Asker>,
    from: Option<&'q str>,
}

/// What would happen to it.
struct Told<'a> {
    /// It would not come in as the URL has it.
    otherwise: Option<String>,
    listener: &'a Listener,
    chain: usize,
    /// The one rule of a chain that passes bytes through.
    of_tcp: Option<RouteTable>,
    explanation: Explanation,
    config: &'a Config,
    documents: &'a Documents,
    /// The request as it is when a rule is looked for.
    parts: Parts,
    /// What it meets before it goes anywhere.
    walk: Walk,
}

impl Asked<'_> {
    /// Asks the gateway on the URL's port, then what workloads call through, then every gateway: the
    /// first that has the host answers. Where the port was said, no gateway on another one answers for the one on it.
    fn find<'a>(
        &self,
        config: &'a Config,
        snapshot: &Snapshot,
        documents: &'a Documents,
    ) -> anyhow::Result<Told<'a>> {
        let rank = |listener: &Listener| {
            let is_other = self.from.is_some_and(|from| listener.name != from);
            (is_other, replay::rank(listener, self.port))
        };
        let mut order: Vec<(usize, &Listener)> = config.listeners.iter().enumerate().collect();
        order.sort_by_key(|(_, listener)| rank(listener));
        // What is there for all whom nobody knows answers where nobody else does.
        let (mut others, mut last, mut on_port) = (None, None, None);
        for (at, listener) in order {
            if self.is_port_said && on_port.is_some() && replay::rank(listener, self.port) == ELSEWHERE {
                continue;
            }
            let host = self.parts.headers.get(http::header::HOST).and_then(|host| host.to_str().ok());
            let name = host.map(|host| host.rsplit_once(':').map_or(host, |(name, _)| name));
            let local = listener.address.ip();
            let arriving = |is_tls| Arriving { local, server_name: name, is_tls };
            let chain = snapshot.chain_for(at, &arriving(self.is_tls));
            // Where it comes in otherwise, it is told all the same what would become of it.
            let chain = chain.or_else(|| snapshot.chain_for(at, &arriving(!self.is_tls)));
            let Some(chain) = chain else { continue };
            // What passes everything through takes nothing that came to another port.
            if snapshot.chain(chain).is_tcp && listener.address.port() != self.port {
                continue;
            }
            let told = self.ask(config, snapshot, documents, (at, listener), chain)?;
            if told.is_of_nobody() {
                others.get_or_insert(told);
                continue;
            }
            // By which gateway a request came in that was sent is no question.
            let is_known = is_gateway(listener) && self.from == Some(listener.name.as_str());
            if told.explanation.verdict != Verdict::NoVirtualHost || is_known {
                return Ok(told);
            }
            let place = if replay::rank(listener, self.port) == ON_PORT { &mut on_port } else { &mut last };
            place.get_or_insert(told);
        }
        // What a gateway on this port has no host for does not go by what workloads may call besides.
        on_port.or(others).or(last).context("the configuration has no listener")
    }

    fn ask<'a>(
        &self,
        config: &'a Config,
        snapshot: &Snapshot,
        documents: &'a Documents,
        (at, listener): (usize, &'a Listener),
        chain: ChainId,
    ) -> anyhow::Result<Told<'a>> {
        let chain_at =
            (0..listener.chains.len()).find(|c| snapshot.chain_id(at, *c) == Some(chain)).unwrap_or(0);
        let settings = listener.chains.get(chain_at).context("a chain without a place")?;
        let of_tcp = settings.tcp.as_ref().map(tcp::routes);
        let routes = of_tcp.as_ref().unwrap_or(&settings.http.routes);
        let peer = Peer {
            remote: SocketAddr::new(self.source, 40_000),
            local: SocketAddr::from((Ipv4Addr::LOCALHOST, self.port)),
            is_tls: self.is_tls,
            is_certified: false,
            is_in_tunnel: false,
        };
        let mut parts = self.parts.clone();
        let explainer = Explainer::new(snapshot, chain, routes);
        let mut explanation = explainer.explain(&mut parts, &peer, 1)?;
        let is_http = settings.tcp.is_none() && explanation.refusal.is_none();
        let walk = match is_http {
            true => {
                let (parts, now) = (self.parts.clone(), naru_proxy::wall_now());
                gate::walk(snapshot, chain, parts, &peer, self.asker.as_ref(), now)
            }
            false => Walk::default(),
        };
        if let Some(verdict) = walk.rerouted.filter(|_| !walk.is_over) {
            // What is shown has another rule take it.
            let line = receive(&mut self.parts.clone(), &settings.http, &peer, &mut Worker::new(snapshot, 1));
            let subject = line.line.subject(&parts.headers, &line.client, 0);
            (explanation.destinations, explanation.group) = explainer.leads_to(verdict, &subject, true);
            explanation.verdict = verdict;
        }
        let otherwise = self.otherwise(config, listener, settings);
        Ok(Told { otherwise, listener, chain: chain_at, of_tcp, explanation, config, documents, parts, walk })
    }
}

/// What becomes of bytes that are not read.
fn passed_through(tcp: &TcpProxy) -> String {
    let idle = tcp.idle_timeout.map_or("for ever".to_owned(), |timeout| format!("{timeout:?}"));
    let tries = tcp.attempts_max;
    let of_tries = if tries == 1 { "one try".to_owned() } else { format!("up to {tries} tries") };
    format!(
        "   its bytes are passed through, and nobody here reads them; {of_tries} to connect; idle {idle}\n"
    )
}

impl Told<'_> {
    fn tcp(&self) -> Option<&TcpProxy> {
        self.listener.chains.get(self.chain)?.tcp.as_ref()
    }

    fn routes(&self) -> Option<&RouteTable> {
        if self.of_tcp.is_some() {
            return self.of_tcp.as_ref();
        }
        self.listener.chains.get(self.chain).map(|chain| &chain.http.routes)
    }

    fn rule(&self, id: RuleId) -> Option<&Rule> {
        self.routes()?.virtual_hosts.iter().flat_map(|host| &host.rules).nth(id.index())
    }

    fn virtual_host(&self) -> Option<&str> {
        let at = match self.explanation.verdict {
            Verdict::NoVirtualHost => return None,
            Verdict::NoRule { virtual_host }
            | Verdict::ServerOptions { virtual_host }
            | Verdict::RequiresTls { virtual_host } => virtual_host as usize,
            Verdict::Rule { rule, .. } => {
                let mut left = rule.index();
                let hosts = &self.routes()?.virtual_hosts;
                hosts.iter().position(|host| match left.checked_sub(host.rules.len()) {
                    Some(rest) => {
                        left = rest;
                        false
                    }
                    None => true,
                })?
            }
        };
        self.routes()?.virtual_hosts.get(at).map(|host| host.name.as_str())
    }

    /// Whether no document has its host.
    fn is_of_nobody(&self) -> bool {
        self.virtual_host() == Some(ADDRESSES_HOST)
    }

    fn cluster(&self, name: &str) -> Option<&Cluster> {
        self.config.clusters.iter().find(|known| known.name == name)
    }

    fn endpoints(&self, cluster: &str) -> usize {
        self.cluster(cluster).map_or(0, |cluster| cluster.endpoints.len())
    }

    /// Those of the rule.
    fn policies(&self, rule: &Rule, forward: &Forward) -> Vec<Policy> {
        let fault = self.listener.chains.get(self.chain).and_then(|chain| chain.http.fault.as_ref());
        let sources = self.documents.of_rule(&rule.origin);
        let mut policies = self.checks(rule);
        policies.extend(of_rule::of(forward, fault, &self.parts.method, &self.parts.headers, &sources));
        policies
    }

    /// What it passes before it goes anywhere.
    fn checks(&self, rule: &Rule) -> Vec<Policy> {
        let chain = self.listener.chains.get(self.chain);
        let asked = self.sessions().and_then(|auth| of_session::of(auth, &self.parts, self.path()));
        let checks = chain.map(|chain| of_gate::of(&chain.http.gate, &rule.gate, self.documents));
        let door = chain.and_then(|chain| chain.http.door.as_deref()).map(of_edge::door);
        door.into_iter().flatten().chain(asked).chain(checks.into_iter().flatten()).collect()
    }

    fn sessions(&self) -> Option<&SessionAuth> {
        let all = &self.listener.chains.get(self.chain)?.http.sessions;
        let host = self.parts.headers.get(http::header::HOST).and_then(|host| host.to_str().ok());
        let authority = host.or_else(|| self.parts.uri.authority().map(|authority| authority.as_str()));
        all.get(SessionAuth::of_host(all, authority.unwrap_or(""))?).map(|auth| &**auth)
    }

    /// As rules see it.
    fn path(&self) -> &str {
        self.explanation.target.as_ref().map_or_else(|| self.parts.uri.path(), |target| target.path())
    }

    /// What naru answers before any rule is asked.
    fn own_answer(&self) -> Option<String> {
        of_session::answers(self.sessions()?, &self.parts, self.path())
    }

    /// Those of one of the clusters that it may go to.
    fn policies_of(&self, cluster: &str, forward: &Forward) -> Vec<Policy> {
        let Some(cluster) = self.cluster(cluster) else { return Vec::new() };
        of_cluster::of(cluster, forward, &self.documents.of_cluster(&cluster.name))
    }

    /// Clusters to which the same happens stand together.
    fn of_destinations(&self, forward: &Forward) -> Vec<(Vec<&str>, Vec<Policy>)> {
        let mut groups: Vec<(Vec<&str>, Vec<Policy>)> = Vec::new();
        for (name, _) in self.explanation.destinations.iter().filter(|(_, weight)| weight.0 > 0) {
            let policies = self.policies_of(name, forward);
            match groups.iter_mut().find(|(_, known)| *known == policies) {
                Some((names, _)) => names.push(name),
                None => groups.push((vec![name], policies)),
            }
        }
        groups
    }

    fn to_text(&self, args: &Question) -> String {
        let mut out = String::new();
        if let Some(otherwise) = &self.otherwise {
            let _ = writeln!(out, "{otherwise}");
        }
        let _ = writeln!(out, "{} {}", args.method, args.url);
        let _ = writeln!(out, "at {}", said(&self.listener.name));
        if let Some(host) = self.virtual_host() {
            let _ = writeln!(out, "host {host}");
        }
        if let Some(target) = &self.explanation.target {
            let _ = writeln!(out, "path becomes {target}");
        }
        let width = self.explanation.considered.len().to_string().len();
        for (at, considered) in self.explanation.considered.iter().enumerate() {
            let Some(rule) = self.rule(considered.rule) else { continue };
            let number = at + 1;
            let name = &rule.name;
            match &considered.decided_by {
                Decision::Matched => {
                    let _ = writeln!(out, "\n{number:>width$}. takes it   {name}");
                    let _ = writeln!(out, "{:width$}  {}", "", rule.origin);
                }
                Decision::Failed { field, name: header, expected, actual } => {
                    let _ = writeln!(out, "\n{number:>width$}. passed by  {name}");
                    let _ = writeln!(out, "{:width$}  {}", "", rule.origin);
                    let what = format!("{field:?}").to_lowercase();
                    let of = if header.is_empty() { String::new() } else { format!(" '{header}'") };
                    let actual = match actual {
                        Some(_) if args.is_recorded && SECRET.contains(&header.as_str()) => {
                            "it is not shown".to_owned()
                        }
                        Some(actual) => format!("it is '{actual}'"),
                        None => "it is not there".to_owned(),
                    };
                    let _ = writeln!(out, "{:width$}  {what}{of}: expected {expected}; {actual}", "");
                }
            }
        }
        if !self.walk.steps.is_empty() {
            let _ = writeln!(out, "at the gate, one after another");
            for step in &self.walk.steps {
                let _ = writeln!(out, "   {}", step.to_line());
            }
            if self.walk.rerouted.is_some() && !self.walk.is_over {
                let rule = match self.explanation.verdict {
                    Verdict::Rule { rule, .. } => self.rule(rule).map_or("", |rule| rule.name.as_str()),
                    _ => "",
                };
                let _ = writeln!(out, "   then the rule '{rule}' takes it, by what is known of who asks");
            }
        }
        let _ = writeln!(out);
        if let Some(step) = self.walk.steps.iter().find(|step| matches!(step.said, Said::Answers { .. })) {
            let _ =
                writeln!(out, "-> {}", step.to_line().split_once(' ').map_or("", |(_, said)| said.trim()));
            let _ = writeln!(out, "behind its gate:");
        }
        out.push_str(&self.outcome(args));
        out
    }

    fn outcome(&self, args: &Question) -> String {
        if let Some(reason) = self.explanation.refusal {
            return format!("-> answered {} ({})\n", reason.status(), reason.name());
        }
        if let Some(answer) = self.own_answer() {
            return format!("-> {answer}\n");
        }
        let mut out = String::new();
        if self.is_of_nobody() {
            let _ = writeln!(out, "nobody has this host here");
            let hint = self.nearest_host(args);
            if !hint.is_empty() {
                let _ = writeln!(out, "   {hint}");
            }
        }
        match self.explanation.verdict {
            Verdict::NoVirtualHost => {
                let _ = writeln!(out, "-> answered 404 (NoRoute, flag NR): nobody has this host here");
                let hint = self.nearest_host(args);
                if !hint.is_empty() {
                    let _ = writeln!(out, "   {hint}");
                }
            }
            Verdict::NoRule { .. } => {
                let _ = writeln!(out, "-> answered 404 (NoRoute, flag NR): no rule takes it");
            }
            Verdict::ServerOptions { .. } => {
                let _ = writeln!(
                    out,
                    "-> answered 200 (ServerOptions): what the server as a whole can do is its own to say"
                );
            }
            Verdict::RequiresTls { .. } => {
                let _ = writeln!(out, "-> answered 301 (Redirect): the host asks for https");
            }
            Verdict::Rule { rule, .. } => {
                let Some(rule) = self.rule(rule) else { return out };
                match &rule.action {
                    Action::Redirect(redirect) => {
                        let _ = writeln!(out, "-> answered {} (Redirect)", redirect.status.as_u16());
                        out.push_str(&lines_of(&self.checks(rule)));
                    }
                    Action::Direct(direct) => {
                        let _ = writeln!(out, "-> answered {} (DirectResponse)", direct.status.as_u16());
                        out.push_str(&lines_of(&self.checks(rule)));
                    }
                    Action::Forward(forward) => {
                        for (cluster, share) in self.shares() {
                            let _ = writeln!(out, "-> {share:>5} {cluster}");
                        }
                        if let Some(tcp) = self.tcp() {
                            out.push_str(&passed_through(tcp));
                            return out;
                        }
                        if let Some(group) = &self.explanation.group {
                            out.push_str(&grouped(group));
                        }
                        let timeout = match (forward.timeout, forward.auto_timeout) {
                            (_, Some(_)) => "automatic".to_owned(),
                            (Some(timeout), None) => format!("{timeout:?}"),
                            (None, None) => "none".to_owned(),
                        };
                        let _ = writeln!(out, "   timeout {timeout}; {}", retries(forward));
                        for policy in self.policies(rule, forward) {
                            let _ = writeln!(out, "   {}", policy.to_line());
                        }
                        for (whose, fallback) in self.fallbacks(forward) {
                            let at = self.fallback_origin(rule, whose);
                            let at = at.map_or_else(String::new, |origin| format!("  ({origin})"));
                            let _ = writeln!(out, "   {}{at}", fallback_text(whose, fallback));
                        }
                        if forward.path.is_some() || forward.host.is_some() || !forward.query.is_empty() {
                            let _ = writeln!(out, "   its path, host or query is rewritten");
                        }
                        for (names, policies) in self.of_destinations(forward) {
                            let _ = writeln!(out, "\n   at {}", names.join("\n   and "));
                            for policy in policies {
                                let _ = writeln!(out, "   {}", policy.to_line());
                            }
                        }
                    }
                }
            }
        }
        out
    }

    /// Of the hosts that any listener has.
    fn nearest_host(&self, args: &Question) -> String {
        let Some(said) = args.url.authority() else { return String::new() };
        let tables = self.config.listeners.iter().flat_map(|listener| &listener.chains);
        let hosts = tables.flat_map(|chain| &chain.http.routes.virtual_hosts);
        let domains: Vec<String> = hosts.flat_map(|host| &host.domains).map(ToString::to_string).collect();
        did_you_mean(said.as_str(), domains.iter().map(String::as_str))
    }

    /// That of the rule, or those of its clusters, each with whose it is.
    fn fallbacks<'b>(
        &'b self,
        forward: &'b Forward,
    ) -> impl Iterator<Item = (Option<&'b str>, &'b Fallback)> {
        let of_rule = forward.fallback.as_ref().map(|fallback| (None, fallback));
        let destinations = if of_rule.is_some() { &[][..] } else { &self.explanation.destinations };
        let of_clusters = destinations.iter().filter_map(|(name, _)| {
            let cluster = self.config.clusters.iter().find(|cluster| cluster.name == *name)?;
            Some((Some(name.as_str()), cluster.fallback.as_ref()?))
        });
        of_rule.into_iter().chain(of_clusters)
    }

    fn fallback_origin(&self, rule: &Rule, whose: Option<&str>) -> Option<String> {
        match whose {
            None => self.documents.of_rule(&rule.origin).fallback(),
            Some(cluster) => self.documents.of_cluster(cluster).fallback(),
        }
    }

    fn shares(&self) -> Vec<(&str, String)> {
        let destinations = &self.explanation.destinations;
        let sum: u64 = destinations.iter().map(|(_, weight)| u64::from(weight.0)).sum();
        let share = |weight: u32| {
            let tenths = u64::from(weight) * 1_000 / sum.max(1);
            if tenths.is_multiple_of(10) {
                format!("{}%", tenths / 10)
            } else {
                format!("{}.{}%", tenths / 10, tenths % 10)
            }
        };
        destinations.iter().map(|(name, weight)| (name.as_str(), share(weight.0))).collect()
    }

    fn to_json(&self, args: &Question) -> Value {
        let considered = self.explanation.considered.iter().filter_map(|considered| {
            let rule = self.rule(considered.rule)?;
            let mut entry = json!({
                "rule": rule.name,
                "origin": rule.origin,
                "block": considered.block,
                "matched": considered.decided_by == Decision::Matched,
            });
            if let Decision::Failed { field, name, expected, actual } = &considered.decided_by {
                entry["field"] = json!(format!("{field:?}").to_lowercase());
                entry["name"] = json!(name);
                entry["expected"] = json!(expected);
                let is_hidden = args.is_recorded && SECRET.contains(&name.as_str());
                entry["actual"] = if is_hidden { Value::Null } else { json!(actual) };
            }
            Some(entry)
        });
        let considered: Vec<Value> = considered.collect();
        let verdict = match self.explanation.verdict {
            _ if self.explanation.refusal.is_some() => {
                let reason = self.explanation.refusal;
                json!({ "kind": "refused", "reason": reason.map(naru_base::Reason::name) })
            }
            _ if let Some(answer) = self.own_answer() => {
                json!({ "kind": "session", "reason": "SessionAnswered", "text": answer })
            }
            Verdict::NoVirtualHost => {
                let hint = self.nearest_host(args);
                json!({ "kind": "no-host", "status": 404, "reason": "NoRoute", "hint": hint })
            }
            Verdict::NoRule { .. } => json!({ "kind": "no-rule", "status": 404, "reason": "NoRoute" }),
            Verdict::ServerOptions { .. } => {
                json!({ "kind": "server-options", "status": 200, "reason": "ServerOptions" })
            }
            Verdict::RequiresTls { .. } => {
                json!({ "kind": "requires-tls", "status": 301, "reason": "Redirect" })
            }
            Verdict::Rule { rule, .. } => self.rule(rule).map_or(Value::Null, |rule| self.rule_json(rule)),
        };
        json!({
            "method": args.method.as_str(),
            "url": args.url.to_string(),
            "otherwise": self.otherwise,
            "listener": self.listener.name,
            "virtual_host": self.virtual_host(),
            "target": self.explanation.target.as_ref().map(|target| target.as_str()),
            "considered": considered,
            "gate": self.walk.steps.iter().map(Step::to_json).collect::<Vec<_>>(),
            "verdict": verdict,
        })
    }

    fn rule_json(&self, rule: &Rule) -> Value {
        let mut parts = rule.origin.rsplitn(3, ':');
        let column: Option<u32> = parts.next().and_then(|part| part.parse().ok());
        let line: Option<u32> = parts.next().and_then(|part| part.parse().ok());
        let mut verdict = json!({
            "kind": "rule",
            "rule": rule.name,
            "origin": rule.origin,
            "file": parts.next(),
            "line": line,
            "column": column,
        });
        if self.tcp().is_some() {
            verdict["passed_through"] = json!(true);
        }
        match &rule.action {
            Action::Redirect(redirect) => verdict["redirect"] = json!({ "status": redirect.status.as_u16() }),
            Action::Direct(direct) => verdict["direct"] = json!({ "status": direct.status.as_u16() }),
            Action::Forward(forward) => {
                let clusters = self.explanation.destinations.iter().map(|(name, weight)| {
                    let policies: Vec<Value> =
                        self.policies_of(name, forward).iter().map(Policy::to_json).collect();
                    json!({
                        "cluster": name,
                        "weight": weight.0,
                        "endpoints": self.endpoints(name),
                        "policies": if self.tcp().is_some() { Vec::new() } else { policies },
                    })
                });
                let policies: Vec<Value> = match self.tcp() {
                    None => self.policies(rule, forward).iter().map(Policy::to_json).collect(),
                    Some(_) => Vec::new(),
                };
                verdict["forward"] = json!({
                    "clusters": clusters.collect::<Vec<_>>(),
                    "timeout_ms": forward.timeout.map(|timeout| timeout.as_millis() as u64),
                    "calls_max": forward.retry.as_ref().map_or(1, naru_spec::RetryPolicy::calls_max),
                    "retry_on": forward.retry.as_ref().map(|policy| policy.on.to_string()),
                    "policies": policies,
                });
                if let Some(group) = &self.explanation.group {
                    verdict["forward"]["group"] = group_json(group);
                }
                let fallbacks: Vec<Value> = self
                    .fallbacks(forward)
                    .map(|(whose, fallback)| {
                        let steps: Vec<String> = fallback.steps.iter().map(step_text).collect();
                        let origin = self.fallback_origin(rule, whose);
                        json!({ "of": whose, "on": fallback.on.words(), "steps": steps, "origin": origin })
                    })
                    .collect();
                if !fallbacks.is_empty() {
                    verdict["forward"]["fallbacks"] = json!(fallbacks);
                }
            }
        }
        verdict
    }
}

fn is_gateway(listener: &Listener) -> bool {
    listener.name.starts_with("gateway/")
}

/// A listener's name in words.
fn said(name: &str) -> String {
    match name.split_once('/') {
        Some(("gateway", address)) => format!("the gateway on {address}"),
        Some(("outbound", client)) if client.starts_with('.') => "a workload's own proxy".to_owned(),
        Some(("outbound", client)) => format!("the proxy of the workload {client}"),
        _ => name.to_owned(),
    }
}

/// Why the request is for its group, and where reads go after a write.
fn grouped(group: &ExplainedGroup) -> String {
    let session = group.read_your_writes.as_ref();
    let mut out = match (why(group.why), session) {
        ("session", Some(session)) => {
            format!(
                "   a read within {:?} of a write by the same session ({})\n",
                session.lasts, session.carrier
            )
        }
        (by, _) => match group.group {
            Group::Read => format!("   a read by its {by}\n"),
            Group::Write => format!("   a write by its {by}\n"),
        },
    };
    if let Some(session) = session.filter(|_| group.why != Why::ReadAfterWrite) {
        let names: Vec<&str> = session.destinations.iter().map(|(name, _)| name.as_str()).collect();
        let names = names.join(", ");
        let _ = match (session.is_known, group.group) {
            (false, _) => writeln!(out, "   of no session: it has no {}", session.carrier),
            (true, Group::Read) => writeln!(
                out,
                "   for {:?} after a write by the same session ({}) it would go to {names}",
                session.lasts, session.carrier
            ),
            (true, Group::Write) => writeln!(
                out,
                "   where it succeeds, reads of the same session ({}) go to {names} for {:?}",
                session.carrier, session.lasts
            ),
        };
    }
    out
}

fn why(why: Why) -> &'static str {
    match why {
        Why::ReadByMethod | Why::WriteByMethod => "method",
        Why::ReadByPath | Why::WriteByPath => "path",
        Why::ReadAfterWrite => "session",
    }
}

fn group_json(group: &ExplainedGroup) -> Value {
    let name = match group.group {
        Group::Read => "read",
        Group::Write => "write",
    };
    let mut said = json!({ "group": name, "by": why(group.why) });
    if let Some(session) = &group.read_your_writes {
        let clusters: Vec<&str> = session.destinations.iter().map(|(name, _)| name.as_str()).collect();
        said["read_your_writes"] = json!({
            "for_ms": session.lasts.as_millis() as u64,
            "session": session.carrier,
            "is_known": session.is_known,
            "clusters": clusters,
        });
    }
    said
}

/// How often it is sent at most, and after what it is sent again.
fn retries(forward: &Forward) -> String {
    match &forward.retry {
        Some(policy) if policy.calls_max() > 1 => format!("{}, on {}", policy.calls_text(), policy.on),
        _ => "at most 1 call, no retry".to_owned(),
    }
}

/// What is tried instead, and when.
fn fallback_text(whose: Option<&str>, fallback: &Fallback) -> String {
    let of = whose.map_or_else(String::new, |name| format!(" of {name}"));
    let on = fallback.on.words().join(", ");
    let steps: Vec<String> = fallback.steps.iter().map(step_text).collect();
    format!("fallback{of} on {on}: {}", steps.join("; else "))
}

fn step_text(step: &FallbackStep) -> String {
    match step {
        FallbackStep::Cluster(name) => name.clone(),
        FallbackStep::StaleResponse => "what is kept of its answers, though it is stale".to_owned(),
        FallbackStep::Answer(answer) => format!("answered {}", answer.status.as_u16()),
    }
}

fn lines_of(policies: &[Policy]) -> String {
    policies.iter().map(|policy| format!("   {}\n", policy.to_line())).collect()
}
