//! What would each check of the gate say to a request that is only thought of?
//!
//! The request goes the way of a live one, through the same [`Journey`], as far as its last check: the door, the login
//! session, then check by check. Whom it would be from is said ([`Asker`]). What nobody can know here is not guessed: who
//! else would be asked is named, and taken to let it pass; a limit says what it would to the first request of its key.

use http::request::Parts;
use naru_admit::described::Described;
use naru_admit::local_rate::LocalSaid;
use naru_base::{ClusterId, EndpointId, Instant, Reason, WallTime};
use naru_identity::external::Judgement;
use naru_journey::arrival::{Wish, receive};
use naru_journey::edge::Peer;
use naru_journey::gate::local_rate::LocalRateId;
use naru_journey::gate::quotas::{Claim, Told};
use naru_journey::gate::{Answer, CompiledCheck, Head, Question, Refusal};
use naru_journey::{Action, ChainId, CheckSaid, Journey, Observer, RequestFacts, Snapshot, View, Worker};
use naru_route::Verdict;
use naru_sim::asker::{Asker, Places, is_said};
use naru_sim::quotas::{LocalRatesHere, QuotasHere};
use naru_spec::SessionAuth;
use serde_json::{Value, json};

/// The way of a request through its checks.
#[derive(Debug, Default)]
pub struct Walk {
    pub steps: Vec<Step>,
    /// Which rule takes it behind them, where that is another one than before.
    pub rerouted: Option<Verdict>,
    /// Whether one of them has answered it.
    pub is_over: bool,
}

/// What one of them says.
#[derive(Debug)]
pub struct Step {
    pub check: &'static str,
    /// Which documents it is of, where it has several.
    pub of: Vec<String>,
    pub said: Said,
    /// What was assumed, in words; empty where nothing was.
    pub assumed: String,
}

#[derive(Debug)]
pub enum Said {
    Passes,
    Answers {
        status: u16,
        reason: Reason,
        details: String,
    },
    /// It hangs on what nobody knows here.
    Unknown,
}

/// A process in which nothing happens but this request.
struct Alone {
    quotas: QuotasHere,
    local_rates: LocalRatesHere,
    now: WallTime,
}

impl View for Alone {
    fn active(&self, _: ClusterId, _: EndpointId) -> u32 {
        0
    }

    fn spend(&self, now: Instant, claims: &[Claim]) -> Told {
        self.quotas.spend(now, 0, claims)
    }

    fn local_rate(&self, now: Instant, rate: LocalRateId, asked: &[Described]) -> LocalSaid {
        self.local_rates.ask(now, rate, asked)
    }

    fn wall(&self) -> WallTime {
        self.now
    }
}

/// Writes down what checks say.
#[derive(Default)]
struct Notes {
    steps: Vec<Step>,
    verdict: Option<Verdict>,
    assumed: String,
}

impl naru_route::Observer for Notes {}

impl Observer for Notes {
    fn routed(&mut self, verdict: Verdict) {
        self.verdict = Some(verdict);
    }

    fn checked(&mut self, check: &CompiledCheck, said: CheckSaid<'_>) {
        let said = match said {
            CheckSaid::Passed => Said::Passes,
            CheckSaid::Refused(refusal) => refused(refusal),
            CheckSaid::Asks(_) => return,
        };
        let (assumed, of) = (std::mem::take(&mut self.assumed), documents_of(check));
        self.steps.push(Step { check: name_of(check), of, said, assumed });
    }
}

fn refused(refusal: &Refusal) -> Said {
    let details = refusal.details.as_deref().unwrap_or_else(|| refusal.reason.details());
    Said::Answers { status: refusal.status, reason: refusal.reason, details: details.to_owned() }
}

fn by_reason(check: &'static str, reason: Reason) -> Step {
    let said = Said::Answers { status: reason.status(), reason, details: reason.details().to_owned() };
    Step { check, of: Vec::new(), said, assumed: String::new() }
}

/// `namespace/name` of policies, each once; what a file calls otherwise is shown as it is.
fn documents_of(check: &CompiledCheck) -> Vec<String> {
    let CompiledCheck::Policies(policies) = check else { return Vec::new() };
    let mut all: Vec<String> = Vec::new();
    for name in policies.names() {
        let document = name.strip_prefix("ns[").and_then(|rest| {
            let (namespace, rest) = rest.split_once("]-policy[")?;
            let (policy, _) = rest.rsplit_once("]-rule[")?;
            Some(format!("{namespace}/{policy}"))
        });
        let document = document.unwrap_or_else(|| name.clone());
        if !all.contains(&document) {
            all.push(document);
        }
    }
    all
}

/// Sends a request through the checks of a chain. `now` is the date.
pub fn walk(
    snapshot: &Snapshot,
    chain: ChainId,
    mut parts: Parts,
    peer: &Peer,
    asker: Option<&Asker>,
    now: WallTime,
) -> Walk {
    let mut worker = Worker::new(snapshot, 1);
    let compiled = snapshot.chain(chain);
    let mut arrival = receive(&mut parts, &compiled.http, peer, &mut worker);
    let mut walk = Walk::default();
    if arrival.wish != Wish::Route {
        return walk;
    }
    let quotas = QuotasHere::new(&snapshot.quotas, None);
    let view = Alone { quotas, local_rates: LocalRatesHere::new(&snapshot.local_rates), now };
    if let Some(door) = &compiled.door
        && let Some(reason) = door.meet(arrival.client.address.ip(), &mut parts.headers, &view)
    {
        walk.steps.push(by_reason("addresses", reason));
        walk.is_over = true;
        return walk;
    }
    if let Some(asker) = asker {
        asker.dress(&Places::of(compiled.gate.as_deref()), &mut parts.headers, &mut arrival.line.path);
    }
    let mut session = None;
    let authority = arrival.line.authority.as_ref().and_then(|host| host.to_str().ok()).unwrap_or("");
    let sessions = &compiled.http.sessions;
    if let Some(auth) = SessionAuth::of_host(sessions, authority).and_then(|at| sessions.get(at)) {
        let line = &arrival.line;
        let (wish, token) =
            Asker::meet(asker, auth, &line.method, line.path.path(), &mut parts.headers, arrival.wish);
        if let Wish::Refuse(reason) = wish {
            walk.steps.push(by_reason("session", reason));
            walk.is_over = true;
            return walk;
        }
        if token.is_some() {
            let (said, assumed) = (Said::Passes, String::new());
            walk.steps.push(Step { check: "session", of: Vec::new(), said, assumed });
        }
        session = token;
    }
    let facts = RequestFacts::of(&parts.method, &parts.headers, &arrival.client, true);
    let begins = Instant::ZERO;
    let subject = arrival.line.subject(&parts.headers, &arrival.client, worker.draw_request());
    let mut journey = Journey::begin(begins, snapshot, chain, &subject, facts, &mut worker, &view, &mut ());
    if let Some(token) = session {
        journey.know_session(token);
    }
    let before = journey.verdict();
    let mut notes = Notes::default();
    while journey.is_at_gate() {
        match journey.next_action() {
            Some(Action::Check) => {
                let mut head = Head {
                    line: &mut arrival.line,
                    client: &arrival.client,
                    headers: &mut parts.headers,
                    peer,
                    server_name: None,
                    names: None,
                    rates: None,
                };
                journey.on_check(begins, snapshot, &mut head, &mut worker, &view, &mut notes);
            }
            Some(Action::Ask) => {
                let Some(question) = journey.question().cloned() else { break };
                let seconds = i64::try_from(now.0 / 1_000_000_000).unwrap_or(i64::MAX);
                match answer(asker, &question, snapshot, seconds, &view) {
                    Ok((answer, assumed)) => {
                        if !assumed.is_empty() {
                            notes.assumed = assumed;
                        }
                        journey.on_answer(begins, answer);
                    }
                    Err((check, unknown)) => {
                        let (said, assumed) = (Said::Unknown, unknown);
                        notes.steps.push(Step { check, of: Vec::new(), said, assumed });
                        break;
                    }
                }
            }
            _ => break,
        }
    }
    walk.is_over = notes.steps.iter().any(|step| matches!(step.said, Said::Answers { .. }));
    walk.rerouted = notes.verdict.filter(|verdict| *verdict != before);
    walk.steps.extend(notes.steps);
    walk
}

/// An answer, and what was assumed for it.
///
/// # Errors
/// The check that it hangs on, and what nobody knows here.
fn answer(
    asker: Option<&Asker>,
    question: &Question,
    snapshot: &Snapshot,
    now: i64,
    view: &Alone,
) -> Result<(Answer, String), (&'static str, String)> {
    let unread = "what it shows is not read here: say what it claims with --as";
    match question {
        Question::Read(reading) if !is_said(reading.wanted.token.as_bytes()) => {
            return Err(("tokens", unread.to_owned()));
        }
        Question::Who(shown) if !is_said(shown.secret.bytes()) => {
            let option = if shown.name.is_some() { "--user" } else { "--key" };
            return Err((
                "credentials",
                format!("what it shows is not read here: say whose it is with {option}"),
            ));
        }
        _ => {}
    }
    if let Some(answer) = Asker::answer(asker, question, snapshot, now) {
        return Ok((answer, String::new()));
    }
    Ok(match question {
        Question::Gather { .. } => (Answer::Gathered(None), String::new()),
        Question::Judge(asking) => {
            let cluster = asking.of.settings().cluster();
            let passes = Judgement::Pass(Box::default());
            (Answer::Judged(Box::new(passes)), format!("asks {cluster}, which is taken to let it pass"))
        }
        Question::Spend(asked) => {
            let told = view.spend(Instant::ZERO, &asked.claims);
            (Answer::Spent(told), format!("counted at {}, and the first of its key", asked.store))
        }
        Question::File(asked) => {
            let names = asked.wanted.candidates.iter().map(|one| String::from_utf8_lossy(&one.path));
            let names: Vec<_> = names.map(|name| format!("{}/{name}", asked.files.root)).collect();
            return Err(("files", format!("answered where there is {}", names.join(", or "))));
        }
        Question::Limit(asking) => {
            let cluster = &asking.of.service.cluster;
            (Answer::Limited(Box::default()), format!("asks {cluster}, which is taken to let it pass"))
        }
        Question::Read(_) | Question::Who(_) => (Answer::Nobody, String::new()),
    })
}

/// As documents call it.
fn name_of(check: &CompiledCheck) -> &'static str {
    match check {
        CompiledCheck::Shed(_) => "surgeShed",
        CompiledCheck::SecurityHeaders(_) => "securityHeaders",
        CompiledCheck::Addresses(_) => "addresses",
        CompiledCheck::Cors(_) => "cors",
        CompiledCheck::Csrf(_) => "csrf",
        CompiledCheck::Keys(_) => "apiKeys",
        CompiledCheck::Passwords(_) => "basicAuth",
        CompiledCheck::Tokens(_) => "tokens",
        CompiledCheck::External(_) => "externalAuthorization",
        CompiledCheck::Policies(_) => "policies",
        CompiledCheck::LocalRate(_) => "localRateLimit",
        CompiledCheck::Quotas(_) => "rateLimit",
        CompiledCheck::RateService(_) => "rateLimitService",
        CompiledCheck::Compress(_) => "compression",
        CompiledCheck::Decompress(_) => "decompression",
        CompiledCheck::BodyLimit(_) => "maxRequestBytes",
        CompiledCheck::Files(_) => "staticFiles",
    }
}

impl Step {
    pub fn to_line(&self) -> String {
        let said = match &self.said {
            Said::Passes => "passes".to_owned(),
            Said::Answers { status, reason, details } => {
                let details = if details.is_empty() { String::new() } else { format!(": {details}") };
                format!("answered {status} ({}, flag {}){details}", reason.name(), reason.flag())
            }
            Said::Unknown => "not known here".to_owned(),
        };
        let assumed = if self.assumed.is_empty() { String::new() } else { format!("; {}", self.assumed) };
        let of = if self.of.is_empty() { String::new() } else { format!("  ({})", self.of.join(", ")) };
        format!("{:<22} {said}{assumed}{of}", self.check)
    }

    pub fn to_json(&self) -> Value {
        let mut told = match &self.said {
            Said::Passes => json!({ "check": self.check, "says": "passes" }),
            Said::Answers { status, reason, details } => json!({
                "check": self.check,
                "says": "answers",
                "status": status,
                "reason": reason.name(),
                "details": details,
            }),
            Said::Unknown => json!({ "check": self.check, "says": "unknown" }),
        };
        if !self.of.is_empty() {
            told["of"] = json!(self.of);
        }
        if !self.assumed.is_empty() {
            told["assumed"] = json!(self.assumed);
        }
        told
    }
}
