//! Requests that were sent, decided by two configurations, and what is told of those that would go elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use naru_journey::Snapshot;
use naru_journey::explain::Disagreement;
use naru_journey::replay::{Asked, Comparison, Goes, Moved, Side, Way, compare};
use naru_spec::{Action, Cluster, Config, Discovery, SessionKey};
use serde_json::{Value, json};

use super::logged::Logged;

/// Requests that differ in what no rule looks at are one shape. As many shapes are kept.
const SHAPES_MAX: usize = 200_000;
/// Of as many requests it is known on which lines they stand.
const LINES_MAX: usize = 1_000_000;
/// Of each change, as many examples are shown.
const EXAMPLES_MAX: usize = 5;
/// Values that are not shown.
const SECRET: [&str; 3] = ["authorization", "cookie", "proxy-authorization"];

/// The names of listeners by their ports, where these are known.
pub type Listeners = BTreeMap<u16, String>;

/// Requests by what rules look at.
#[derive(Debug)]
pub struct Shapes {
    /// Headers that any rule asks for.
    asked: BTreeSet<String>,
    /// Of these, those that some line had.
    seen: BTreeSet<String>,
    shapes: BTreeMap<Shape, Lines>,
    lines: u64,
    pub requests: u64,
    /// Lines that tell of no request.
    pub others: u64,
    /// Requests whose shape found no room.
    pub left_out: u64,
}

/// Requests of one shape.
#[derive(Debug, Default)]
struct Lines {
    count: u64,
    /// From 1.
    numbers: Vec<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Shape {
    method: String,
    host: String,
    target: String,
    headers: Vec<(String, String)>,
    port: Option<u16>,
    is_tls: bool,
}

impl Shapes {
    pub fn of(configs: &[&Config]) -> Shapes {
        Shapes {
            asked: configs.iter().flat_map(|config| headers_asked(config)).collect(),
            seen: BTreeSet::new(),
            shapes: BTreeMap::new(),
            lines: 0,
            requests: 0,
            others: 0,
            left_out: 0,
        }
    }

    /// The next line, and what it tells.
    pub fn add(&mut self, logged: Option<Logged>) {
        self.lines += 1;
        let Some(logged) = logged else {
            self.others += 1;
            return;
        };
        self.requests += 1;
        let mut headers = Vec::new();
        for (name, value) in logged.headers {
            if self.asked.contains(&name) {
                self.seen.insert(name.clone());
                headers.push((name, value));
            }
        }
        let shape = Shape {
            method: logged.method,
            host: logged.host,
            target: logged.target,
            headers,
            port: logged.port,
            is_tls: logged.is_tls,
        };
        if self.shapes.len() >= SHAPES_MAX && !self.shapes.contains_key(&shape) {
            self.left_out += 1;
            return;
        }
        let known = self.shapes.entry(shape).or_default();
        known.count += 1;
        if self.requests <= LINES_MAX as u64 {
            known.numbers.push(self.lines);
        }
    }

    /// Headers that rules ask for and no line has.
    fn unseen(&self) -> Vec<&str> {
        self.asked.difference(&self.seen).map(String::as_str).collect()
    }

    /// Each shape as a request, and the lines that it stands on.
    fn requests(&self, listeners: &Listeners) -> (Vec<Asked>, Vec<Vec<u64>>) {
        let request = |(shape, lines): (&Shape, &Lines)| {
            Some((shape.request(lines.count, listeners)?, lines.numbers.clone()))
        };
        self.shapes.iter().filter_map(request).unzip()
    }
}

impl Shape {
    /// `None` where no server would take it for a request.
    fn request(&self, count: u64, listeners: &Listeners) -> Option<Asked> {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
            headers.append(name, HeaderValue::from_str(value).ok()?);
        }
        let of_host = self.host.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        let port = self.port.or(of_host).unwrap_or(if self.is_tls { 443 } else { 80 });
        Some(Asked {
            method: Method::from_bytes(self.method.as_bytes()).ok()?,
            host: self.host.clone(),
            target: self.target.parse().ok()?,
            headers,
            source: SocketAddr::from((Ipv4Addr::LOCALHOST, 40_000)),
            port,
            listener: self.port.and_then(|port| listeners.get(&port).cloned()),
            is_tls: self.is_tls,
            count,
        })
    }
}

/// The headers that rules of a configuration look at, in lower case.
pub fn headers_asked(config: &Config) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let chains = config.listeners.iter().flat_map(|listener| &listener.chains);
    let hosts = chains.flat_map(|chain| &chain.http.routes.virtual_hosts);
    for rule in hosts.flat_map(|host| &host.rules) {
        if let Action::Forward(forward) = &rule.action
            && let Some(session) = forward.groups.as_ref().and_then(|groups| groups.read_your_writes.as_ref())
        {
            names.insert(match session.session() {
                SessionKey::Cookie(_) => http::header::COOKIE.to_string(),
                SessionKey::Header { name, .. } => name.to_string(),
            });
        }
        for block in &rule.matches {
            names.extend(block.headers.iter().map(|header| header.name.to_string()));
            if !block.cookies.is_empty() {
                names.insert(http::header::COOKIE.to_string());
            }
            if block.grpc {
                names.insert(http::header::CONTENT_TYPE.to_string());
            }
        }
    }
    names
}

/// What is told of a comparison.
#[derive(Debug)]
pub struct Told {
    comparison: Comparison,
    /// Clusters of the new side that nobody is in.
    empty: BTreeSet<String>,
    requests: Vec<Asked>,
    /// Of each of them.
    lines: Vec<Vec<u64>>,
    unseen: Vec<String>,
    others: u64,
    left_out: u64,
}

impl Told {
    pub fn of(
        (old, old_tables): (&Config, &Snapshot),
        (new, new_tables): (&Config, &Snapshot),
        shapes: &Shapes,
        listeners: &Listeners,
    ) -> Result<Told, Disagreement> {
        let (requests, lines) = shapes.requests(listeners);
        let comparison = compare(&Side::new(old, old_tables), &Side::new(new, new_tables), &requests)?;
        let is_empty =
            |cluster: &&Cluster| cluster.discovery == Discovery::Static && cluster.endpoints.is_empty();
        let empty = new.clusters.iter().filter(is_empty).map(|cluster| cluster.name.clone()).collect();
        Ok(Told {
            comparison,
            empty,
            requests,
            lines,
            unseen: shapes.unseen().into_iter().map(str::to_owned).collect(),
            others: shapes.others,
            left_out: shapes.left_out,
        })
    }

    /// In one line, for whoever saves a file.
    pub fn to_line(&self) -> String {
        let Comparison { requests, elsewhere, newly_fail, otherwise, .. } = &self.comparison;
        if *elsewhere == 0.0 && *newly_fail == 0.0 {
            let otherwise = match otherwise {
                0 => String::new(),
                many => format!(", {many} by a rule that rewrites otherwise"),
            };
            return format!("of the last {requests} requests all would go where they went{otherwise}");
        }
        let mut line =
            format!("of the last {requests} requests {} would go elsewhere", self.part(*elsewhere));
        if *newly_fail > 0.0 {
            let _ = write!(line, ", {} would newly fail", self.part(*newly_fail));
        }
        line
    }

    fn part(&self, count: f64) -> String {
        let all = self.comparison.requests.max(1) as f64;
        format!("{} ({:.1}%)", rounded(count), count * 100.0 / all)
    }

    pub fn to_text(&self) -> String {
        let comparison = &self.comparison;
        let mut out = format!("{} requests", comparison.requests);
        if self.others > 0 {
            let _ = write!(out, ", {} lines that are none", self.others);
        }
        if self.left_out > 0 {
            let _ = write!(out, ", {} left out for want of room", self.left_out);
        }
        out.push('\n');
        if !self.unseen.is_empty() {
            let _ = writeln!(
                out,
                "rules ask for headers that no line has: {}; requests are taken to have none of them",
                self.unseen.join(", ")
            );
        }
        let _ = writeln!(out, "{} would go elsewhere", self.part(comparison.elsewhere));
        let _ = writeln!(out, "{} would newly fail", self.part(comparison.newly_fail));
        if comparison.otherwise > 0 {
            let _ = writeln!(out, "{} would go to the same place, rewritten otherwise", comparison.otherwise);
        }
        out.push_str(&self.groups(usize::MAX));
        out
    }

    /// The changes that most requests see.
    pub fn groups(&self, count: usize) -> String {
        let mut out = String::new();
        for moved in self.comparison.moved.iter().take(count) {
            let _ = writeln!(out, "\n{}", self.headline(moved));
            // Where nothing goes elsewhere, both are the same place.
            if moved.elsewhere > 0.0 || moved.before.goes != moved.after.goes {
                let _ = writeln!(out, "  from {}", said(&moved.before));
                let _ = writeln!(out, "    to {}", said(&moved.after));
            } else {
                let _ = writeln!(out, "    at {}", said(&moved.after));
            }
            for example in moved.asked.iter().take(EXAMPLES_MAX) {
                let _ = writeln!(out, "       {}", self.example(*example));
            }
        }
        let left = self.comparison.moved.len().saturating_sub(count);
        if left > 0 {
            let _ = writeln!(out, "\nand {left} more");
        }
        out
    }

    /// How many, and of those that would newly fail, why.
    fn headline(&self, moved: &Moved) -> String {
        let part = |count: f64| match moved.requests as f64 - count {
            rest if rest > 1e-6 => format!("{} of {}", rounded(count), moved.requests),
            _ => moved.requests.to_string(),
        };
        if moved.newly_fail == 0.0 {
            return part(moved.elsewhere);
        }
        let clusters = match &moved.after.goes {
            Goes::To(clusters) => clusters.as_slice(),
            _ => &[],
        };
        let empty: Vec<&str> = clusters
            .iter()
            .map(|(name, _)| name.as_str())
            .filter(|name| self.empty.contains(*name))
            .collect();
        let why = if empty.is_empty() {
            String::new()
        } else {
            format!(": no endpoint is there in {}", empty.join(", "))
        };
        let failing = part(moved.newly_fail);
        if moved.elsewhere == 0.0 {
            return format!("{failing} would newly fail{why}");
        }
        format!("{}, {failing} would newly fail{why}", part(moved.elsewhere))
    }

    fn example(&self, at: usize) -> String {
        let Some(asked) = self.requests.get(at) else { return String::new() };
        let mut out = format!("{} {}{}", asked.method, asked.host, asked.target);
        for (name, value) in &asked.headers {
            let is_secret = SECRET.contains(&name.as_str());
            let value = if is_secret { "(not shown)" } else { value.to_str().unwrap_or("(no text)") };
            let _ = write!(out, "  {name}: {value}");
        }
        if asked.count > 1 {
            let _ = write!(out, "  ({} times)", asked.count);
        }
        // What a client sent may not move the cursor of whoever looks.
        out.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
    }

    pub fn to_json(&self) -> Value {
        let comparison = &self.comparison;
        let moved: Vec<Value> = comparison
            .moved
            .iter()
            .map(|moved| {
                let examples = moved.asked.iter().take(EXAMPLES_MAX);
                let examples: Vec<String> = examples.map(|at| self.example(*at)).collect();
                let mut lines: Vec<u64> =
                    moved.asked.iter().filter_map(|at| self.lines.get(*at)).flatten().copied().collect();
                lines.sort_unstable();
                json!({
                    "before": way(&moved.before),
                    "after": way(&moved.after),
                    "requests": moved.requests,
                    "elsewhere": moved.elsewhere,
                    "newly_fail": moved.newly_fail,
                    "examples": examples,
                    "lines": lines,
                })
            })
            .collect();
        json!({
            "requests": comparison.requests,
            "other_lines": self.others,
            "left_out": self.left_out,
            "headers_not_in_the_log": self.unseen,
            "elsewhere": comparison.elsewhere,
            "newly_fail": comparison.newly_fail,
            "rewritten_otherwise": comparison.otherwise,
            "moved": moved,
        })
    }
}

fn rounded(count: f64) -> String {
    if (count - count.round()).abs() < 1e-6 { format!("{count:.0}") } else { format!("about {count:.0}") }
}

fn said(way: &Way) -> String {
    let by = match way.rule.as_str() {
        "" => String::new(),
        name => format!("  by '{name}'"),
    };
    let at = if way.origin.is_empty() { String::new() } else { format!(" at {}", way.origin) };
    format!("{}{by}{at}", words(&way.goes))
}

fn words(goes: &Goes) -> String {
    match goes {
        Goes::To(to) => match to.as_slice() {
            [] => "nobody: 503".to_owned(),
            [(name, _)] => name.clone(),
            many => {
                let sum: u64 = many.iter().map(|(_, weight)| u64::from(*weight)).sum();
                let share = |weight: u32| f64::from(weight) * 100.0 / sum.max(1) as f64;
                let parts = many.iter().map(|(name, weight)| format!("{:.1}% {name}", share(*weight)));
                parts.collect::<Vec<_>>().join(", ")
            }
        },
        Goes::Redirected { status, .. } => format!("a redirect, {status}"),
        Goes::Answered(status) => format!("an answer of the rule, {status}"),
        Goes::RequiresTls => "a redirect to https, 301".to_owned(),
        Goes::Refused(reason) => format!("a refusal ({reason})"),
        Goes::NoHost => "404: nobody has this host".to_owned(),
        Goes::NoRule => "404: no rule takes it".to_owned(),
        Goes::NoListener => "nothing: no listener is there".to_owned(),
    }
}

fn way(way: &Way) -> Value {
    let kind = match &way.goes {
        Goes::To(_) => "clusters",
        Goes::Redirected { .. } | Goes::RequiresTls => "redirect",
        Goes::Answered(_) => "direct",
        Goes::Refused(_) => "refused",
        Goes::NoHost => "no-host",
        Goes::NoRule => "no-rule",
        Goes::NoListener => "no-listener",
    };
    let clusters: Vec<Value> = match &way.goes {
        Goes::To(to) => {
            to.iter().map(|(name, weight)| json!({ "cluster": name, "weight": weight })).collect()
        }
        _ => Vec::new(),
    };
    json!({
        "kind": kind,
        "clusters": clusters,
        "text": words(&way.goes),
        "rule": way.rule,
        "origin": way.origin,
    })
}
