//! What people ask of everything that runs: what was in force, to go back to it, why a request goes where it goes.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::future::Future;
use std::time::Duration;

use http::{StatusCode, Uri};
use naru_base::WallTime;
use naru_resource::Resources;
use naru_sources::Texts;
use naru_spec::Problem;
use serde_json::{Value, json};

use super::mesh::Change;
use super::{NotStarted, Running, remember};
use crate::admin::guards_of;
use crate::asking::{Asked, Refusal, What};
use crate::diff_command::replayed::{Listeners, Shapes, Told};
use crate::diff_command::settings;
use crate::explain_command::{Answer, Question};
use crate::policies::Documents;
use crate::recent;

/// A line of a request that has just ended comes with the next piece.
const LATE: Duration = Duration::from_millis(400);
/// As many workloads are asked for when nobody says who calls.
const CALLERS_MAX: usize = 100;
/// Groups that are told at a save.
const GROUPS_MAX: usize = 3;

impl Running<'_> {
    pub(super) async fn on_asked(&mut self, asked: Asked) {
        let answer = match asked.what {
            What::History => Ok(self.versions()),
            What::Show(number) => self.documents(number),
            What::Rollback(number) => self.go_back(number).await,
            What::Apply(files) => self.apply(files).await,
            What::Try(files) => self.try_on(Texts { files }).await,
            What::Explain(question) => self.explain(&question).map(|answer| self.told(answer, None)),
            What::ExplainId(id) => self.explain_recorded(&id).await,
        };
        // Whoever does not wait any more wants no answer.
        let _ = asked.reply.send(answer);
    }

    fn versions(&self) -> Value {
        let versions: Vec<Value> = self
            .history
            .versions()
            .iter()
            .map(|version| {
                let since = WallTime(version.since.saturating_mul(1_000_000_000));
                json!({
                    "version": version.number,
                    "since": naru_journey::record::time(since),
                    "source": version.source,
                    "files": version.files,
                })
            })
            .collect();
        json!({ "current": self.history.current(), "versions": versions })
    }

    fn texts_of(&self, number: u64) -> Result<Texts, Refusal> {
        self.history.texts(number).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                Refusal(StatusCode::NOT_FOUND, format!("there is no version {number}"))
            }
            _ => Refusal(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        })
    }

    fn documents(&self, number: u64) -> Result<Value, Refusal> {
        let texts = self.texts_of(number)?;
        let files: Vec<Value> =
            texts.files.iter().map(|(name, text)| json!({ "name": name, "text": text })).collect();
        Ok(json!({ "version": number, "files": files }))
    }

    async fn go_back(&mut self, number: u64) -> Result<Value, Refusal> {
        let texts = self.texts_of(number)?;
        let changes = self.put_texts(&texts).await?;
        let directory = self.directory.clone();
        let kept = remember(self.history.go_back(&texts, number, &directory));
        naru_say::say!("naru: somebody has gone back to version {number}; it is in effect");
        Ok(json!({ "version": kept, "changes": changes }))
    }

    /// What a batch would be and mean. Nothing is changed by it.
    async fn try_on(&mut self, texts: Texts) -> Result<Value, Refusal> {
        let loaded = texts.load();
        let documents = replaced(self.mesh.resources(), &loaded.resources);
        let kept = self.mesh.replace(loaded);
        let surrounded = self.mesh.surround(&mut self.acme);
        let checked = self.mesh.check();
        let change = self.mesh.changed_from(kept.0.resources.clone());
        self.mesh.restore(kept);
        let restored = self.mesh.surround(&mut self.acme);
        surrounded
            .and(restored)
            .map_err(|error| Refusal(StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}")))?;
        if checked.compiled.is_none() {
            return Err(refused(&checked.problems, None));
        }
        let Meaning { differences, changes } = self.meaning(change).await;
        Ok(json!({
            "dry_run": true,
            "documents": documents,
            "differences": differences,
            "changes": changes,
        }))
    }

    async fn apply(&mut self, files: Vec<(String, String)>) -> Result<Value, Refusal> {
        let texts = Texts { files };
        let documents = replaced(self.mesh.resources(), &texts.load().resources);
        let changes = self.put_texts(&texts).await?;
        let directory = self.directory.clone();
        let kept = remember(self.history.put_instead(&texts, "a batch", &directory));
        naru_say::say!("naru: a batch of documents is in effect");
        Ok(json!({ "version": kept, "documents": documents, "changes": changes }))
    }

    async fn put_texts(&mut self, texts: &Texts) -> Result<Vec<String>, Refusal> {
        let (problems, changed) = self.change(texts).await;
        match changed {
            Ok(before) => {
                self.again = None;
                Ok(self.summary(before).await)
            }
            Err(Some(NotStarted { found, .. })) if !found.is_empty() => Err(refused(&found, None)),
            Err(error) => Err(refused(&problems, error.map(|error| error.to_string()))),
        }
    }

    /// What a change means to the last requests, in lines for people. It is found out beside everything else.
    pub(super) fn summary(&self, before: Resources) -> impl Future<Output = Vec<String>> + use<> {
        // Where there is nothing to compare, nothing is planned.
        let is_asked = self.args.recent_requests > 0 && !self.proxy.recent_lines().is_empty();
        let meaning = is_asked.then(|| self.meaning(self.mesh.changed_from(before)));
        async move {
            match meaning {
                Some(meaning) => meaning.await.changes,
                None => Vec::new(),
            }
        }
    }

    fn meaning(&self, change: Change) -> impl Future<Output = Meaning> + use<> {
        let is_on = self.args.recent_requests > 0;
        let lines = if is_on { self.proxy.recent_lines() } else { Vec::new() };
        let listeners = self.listeners();
        let found = tokio::task::spawn_blocking(move || compared(change, &lines, &listeners));
        async move { found.await.ok().flatten().unwrap_or_default() }
    }

    /// Their names by the ports that they really have.
    fn listeners(&self) -> Listeners {
        let snapshot = self.proxy.snapshot();
        let named = snapshot.listeners.iter().zip(self.proxy.addresses());
        named.map(|(listener, address)| (address.port(), listener.name.clone())).collect()
    }

    fn explain(&self, question: &Question) -> Result<Answer, Refusal> {
        let config = self.in_force.borrow();
        let documents = Documents::new(self.mesh.resources().clone());
        let snapshot = self.proxy.snapshot();
        let answer = |question: &Question| question.answer(&config, &snapshot, &documents);
        let told = answer(question);
        let mut told = told.map_err(|error| Refusal(StatusCode::BAD_REQUEST, format!("{error:#}")))?;
        let Some(caller) = name_of_caller(&told.listener).filter(|_| question.from.is_none()) else {
            return Ok(told);
        };
        // Nobody is said to call: it is said who is taken, and for whom it would be otherwise.
        let names = config.listeners.iter().map(|listener| &listener.name);
        let others = names.filter(|name| **name != told.listener && name_of_caller(name).is_some());
        let otherwise: Vec<String> = others
            .take(CALLERS_MAX)
            .filter(|name| {
                let from = Some((*name).clone());
                let other = answer(&Question { from, ..question.clone() });
                other.is_ok_and(|other| (&other.origin, &other.clusters) != (&told.origin, &told.clusters))
            })
            .filter_map(|name| name_of_caller(name))
            .collect();
        let but = match otherwise.as_slice() {
            [] => String::new(),
            others => format!("; it is otherwise with --from {}", others.join(", ")),
        };
        told.text = format!("taken to be called by {caller}{but}\n{}", told.text);
        told.json["caller"] = json!(caller);
        told.json["otherwise_from"] = json!(otherwise);
        Ok(told)
    }

    async fn explain_recorded(&self, id: &str) -> Result<Value, Refusal> {
        if self.args.recent_requests == 0 {
            let why = "no requests are kept: 'naru up' runs with --recent-requests 0";
            return Err(Refusal(StatusCode::NOT_FOUND, why.to_owned()));
        }
        let mut found = recent::find(&self.proxy, id);
        if found.is_none() {
            tokio::time::sleep(LATE).await;
            found = recent::find(&self.proxy, id);
        }
        let Some((logged, line)) = found else {
            let why = "none of the requests that are kept has this id";
            return Err(Refusal(StatusCode::NOT_FOUND, why.to_owned()));
        };
        let scheme = if logged.is_tls { "https" } else { "http" };
        let url: Result<Uri, _> = format!("{scheme}://{}{}", logged.host, logged.target).parse();
        let method = http::Method::from_bytes(logged.method.as_bytes());
        let (Ok(url), Ok(method)) = (url, method) else {
            return Err(Refusal(StatusCode::NOT_FOUND, "its first line was no request".to_owned()));
        };
        let listeners = self.listeners();
        let question = Question {
            method,
            url,
            headers: logged.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect(),
            source: logged.source.unwrap_or(std::net::Ipv4Addr::LOCALHOST.into()),
            port: logged.port,
            from: logged.port.and_then(|port| listeners.get(&port).cloned()),
            is_recorded: true,
            asker: None,
        };
        Ok(self.told(self.explain(&question)?, Some(&line)))
    }

    /// With how the endpoints are now, and what became of the request where it is one that was sent.
    fn told(&self, answer: Answer, recorded: Option<&Value>) -> Value {
        let Answer { mut text, mut json, clusters, origin, .. } = answer;
        if let Some(line) = recorded {
            let mut whole = became(line, origin.as_deref(), &clusters);
            whole.push_str(&text);
            text = whole;
            let mut line = line.clone();
            if let Some(fields) = line.as_object_mut() {
                // What rules look at may be what proves who somebody is.
                fields.remove("headers");
            }
            json["recorded"] = line;
        }
        let mut now = BTreeMap::new();
        for cluster in self.proxy.clusters().iter().filter(|cluster| clusters.contains(&cluster.name)) {
            let (lines, values) = guards_of(cluster);
            text.push_str(&lines);
            now.insert(cluster.name.clone(), values);
        }
        json["now"] = json!(now);
        json["text"] = json!(text);
        json
    }
}

/// The workload whose listener this is, as `--from` has it.
fn name_of_caller(listener: &str) -> Option<String> {
    let (name, namespace) = listener.strip_prefix("outbound/")?.rsplit_once('.')?;
    Some(format!("{namespace}/{name}"))
}

/// What became of a request, and whether it would be the same now.
fn became(line: &Value, origin: Option<&str>, clusters: &[String]) -> String {
    let field = |name: &str| match line.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ => "-".to_owned(),
    };
    let mut out = format!(
        "at {}: answered {} ({}) after {} ms",
        field("start_time"),
        field("response_code"),
        field("reason"),
        field("duration_ms")
    );
    let attempts = field("upstream_attempts");
    if field("upstream_cluster") != "-" {
        let s = if attempts == "1" { "" } else { "s" };
        let _ = write!(
            out,
            "\nby {} of {} in {attempts} attempt{s}",
            field("upstream_host"),
            field("upstream_cluster")
        );
    }
    if field("upstream_failure") != "-" {
        let _ = write!(out, ": {}", field("upstream_failure"));
    }
    let was = field("route_origin");
    if was != "-" {
        let _ = write!(out, "\nby the rule '{}' at {was}", field("route_name"));
    }
    let is_same = origin.unwrap_or("-") == was;
    let is_there = field("upstream_cluster") == "-" || clusters.contains(&field("upstream_cluster"));
    if !is_same || !is_there {
        out.push_str("\nthe configuration is another one since then; now:");
    }
    out.push_str("\n\n");
    out
}

fn refused(problems: &[Problem], error: Option<String>) -> Refusal {
    let errors = problems.iter().filter(|problem| problem.is_error()).map(Problem::to_string);
    let why = errors.chain(error).collect::<Vec<_>>().join("\n");
    Refusal(StatusCode::CONFLICT, format!("it cannot be, and changes nothing\n{why}"))
}

/// Documents that are in one of two sets only.
fn replaced(before: &Resources, after: &Resources) -> Value {
    let (old, new) = (before.names(), after.names());
    let gone: Vec<&String> = old.difference(&new).collect();
    let come: Vec<&String> = new.difference(&old).collect();
    json!({ "gone": gone, "new": come, "kept": old.intersection(&new).count() })
}

/// What is different, and what that does to the last requests, in lines for people.
#[derive(Default)]
struct Meaning {
    differences: Vec<String>,
    changes: Vec<String>,
}

fn compared(change: Change, lines: &[u8], listeners: &Listeners) -> Option<Meaning> {
    let [(before, old), (after, new)] = change.compile()?;
    let differences = settings::between(&before, &after).to_text().lines().map(str::to_owned).collect();
    let mut shapes = Shapes::of(&[&before, &after]);
    for logged in recent::requests(lines) {
        shapes.add(logged);
    }
    if shapes.requests == 0 {
        return Some(Meaning { differences, changes: Vec::new() });
    }
    let told = match Told::of((&before, &old), (&after, &new), &shapes, listeners) {
        Ok(told) => told,
        Err(fault) => return Some(Meaning { differences, changes: vec![fault.to_string()] }),
    };
    let mut changes = vec![told.to_line()];
    changes.extend(
        told.groups(GROUPS_MAX).lines().filter(|line| !line.is_empty()).map(|line| format!("  {line}")),
    );
    Some(Meaning { differences, changes })
}

#[cfg(test)]
mod tests {
    use naru_plan::Surroundings;

    use super::*;

    const DOCUMENTS: &str = "\
apiVersion: v1
kind: Service
metadata: { name: a }
spec: { selector: { app: a }, ports: [{ name: http, port: 80 }] }
---
apiVersion: apps/v1
kind: Deployment
metadata: { name: a }
spec:
  replicas: 1
  selector: { matchLabels: { app: a } }
  template:
    metadata: { labels: { app: a } }
    spec: { containers: [{ name: a, command: [a], ports: [{ containerPort: 80 }] }] }
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: { name: gate }
spec: { servers: [{ port: { number: 8080, name: http, protocol: HTTP }, hosts: ['*'] }] }
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: a }
spec: { hosts: [shop.test], gateways: [gate], http: [{ route: [{ destination: { host: a } }] }] }
";

    fn resources(text: &str) -> Resources {
        Texts { files: vec![("a.yaml".to_owned(), text.to_owned())] }.load().resources
    }

    #[test]
    fn a_save_that_leaves_no_process_newly_fails_though_one_still_runs() {
        let line = br#"{"method":"GET","path":"/","authority":"shop.test:8080"}"#;
        let said = |before: &str, after: &str| {
            let change = Change::new(resources(before), resources(after), Surroundings::default());
            compared(change, line, &Listeners::new()).unwrap()
        };
        let none = DOCUMENTS.replace("replicas: 1", "replicas: 0");
        let fails = said(DOCUMENTS, &none);
        assert!(fails.changes[0].ends_with("1 (100.0%) would newly fail"), "{:?}", fails.changes);
        assert!(fails.changes[1].contains("1 would newly fail: no endpoint is there in outbound|80||a."));
        // From and to would name the same place.
        assert!(!fails.changes.iter().any(|line| line.contains(" from ")), "{:?}", fails.changes);
        assert!(fails.differences[0].contains("clusters  changed"), "{:?}", fails.differences);
        for (before, after) in [(&*none, DOCUMENTS), (DOCUMENTS, DOCUMENTS), (&none, &none)] {
            let goes = said(before, after);
            assert!(goes.changes[0].contains("all would go where they went"), "{:?}", goes.changes);
        }
    }
}
