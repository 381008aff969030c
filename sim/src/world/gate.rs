//! The checks of a request, carried out: the counterpart of `proxy/src/gate.rs`.
//!
//! | what is asked               | who answers                                                                     |
//! |-----------------------------|---------------------------------------------------------------------------------|
//! | a token, a key, a password  | [`Asker`], at once                                                              |
//! | the beginning of a body     | the upload, once it is there                                                    |
//! | whether others let it pass  | the service behind their cluster: a passage beside, as `gate/exchange.rs` has it |
//! | counts of a store           | [`crate::stores::Around`], when its answer is there                             |
//! | counts that gateways share  | the members of their circle: `leases.rs`                                        |
//! | a file                      | the scenario, at once                                                           |

use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use naru_base::Reason;
use naru_identity::external::{Beginning, CheckResponse, Denied, Judgement};
use naru_journey::gate::external::Asking as AboutRequest;
use naru_journey::gate::quotas::Asked;
use naru_journey::gate::{Answer, Head, Question};
use naru_journey::{Journey, Milestone, Shadow, ShadowFacts};
use naru_spec::ExternalService;

use super::{Event, News, World, sends_max};
use crate::arena::Ticket;
use crate::asker::Asker;
use crate::body::BodyEnd;
use crate::mirrors::Copied;
use crate::passage::{Asking, KeptHead, Key, Passage};
use crate::stores::Fate;
use crate::upstream::{ProxyId, Upstreams};
use crate::wall;

impl<U: Upstreams, T: Copy> World<'_, U, T> {
    /// Asks the checks of its gate.
    pub(super) fn hear_check(&mut self, passage: &mut Passage<T>) {
        let Some(head) = &mut passage.head else { return };
        let KeptHead { line, client, headers, peer } = &mut **head;
        let here = &mut self.proxies[passage.proxy.index()];
        here.fleet.wall.set(wall::wall(self.now));
        let core = &mut here.workers[passage.worker].core;
        let view = here.fleet.seen_by(passage.worker);
        let mut head = Head { line, client, headers, peer, server_name: None, names: None, rates: None };
        passage.journey.on_check(self.now, here.snapshot, &mut head, core, &view, &mut ());
        passage.sends_max = sends_max(here.snapshot, &passage.journey);
        if passage.journey.is_in_fault() && !passage.is_in_fault {
            passage.is_in_fault = true;
            here.fleet.shared.faults.update(|count| count + 1);
        }
    }

    /// Has what a check asks answered.
    pub(super) fn ask_about(&mut self, passage: &mut Passage<T>) {
        let Some(question) = passage.journey.question().cloned() else { return };
        let here = &self.proxies[passage.proxy.index()];
        let seconds = wall::seconds(self.now);
        if let Some(answer) = Asker::answer(passage.asker.as_deref(), &question, here.snapshot, seconds) {
            return passage.journey.on_answer(self.now, answer);
        }
        match question {
            Question::Gather { bytes_max, allows_partial } => {
                passage.asking = Some(Asking::Body { bytes_max, allows_partial });
                self.gather(passage);
            }
            Question::Judge(about) => self.inquire(passage, &about),
            Question::Spend(asked) => {
                if !self.spend_leased(passage, &asked, None) {
                    self.ask_store(passage, &asked);
                }
            }
            Question::File(asked) => {
                let said = self.around.files.find(&asked);
                passage.journey.on_answer(self.now, Answer::File(said));
            }
            // A configuration with a rate limit service is refused.
            Question::Read(_) | Question::Who(_) | Question::Limit(_) => {
                passage.journey.on_answer(self.now, Answer::Nobody)
            }
        }
    }

    /// Time has passed, and a question may be over with it.
    pub(super) fn look_at_question(&mut self, passage: &mut Passage<T>) {
        if passage.journey.question().is_none() {
            self.stop_asking(passage);
        }
    }

    /// Nobody wants to know any more.
    pub(super) fn stop_asking(&mut self, passage: &mut Passage<T>) {
        match passage.asking.take() {
            Some(Asking::Service(key)) => {
                self.queue.push(self.now, Event::Request(key, News::ClientLeaves));
            }
            Some(Asking::Answer(Some(answer))) => drop(self.around.answers.remove(answer)),
            Some(Asking::Answer(None) | Asking::Body { .. } | Asking::Leased { .. }) | None => {}
        }
    }

    fn answer_question(&mut self, passage: &mut Passage<T>, answer: Answer) {
        passage.asking = None;
        passage.journey.on_answer(self.now, answer);
    }

    /// Looks whether enough of the body is there.
    pub(super) fn gather(&mut self, passage: &mut Passage<T>) {
        let Some(Asking::Body { bytes_max, allows_partial }) = passage.asking else { return };
        let Some(upload) = &mut passage.upload else {
            return self.answer_question(passage, Answer::Gathered(None));
        };
        let (there, max) = (upload.body.bytes_upto(upload.arrived), u64::from(bytes_max));
        if upload.has_end && upload.body.end == BodyEnd::Broken {
            upload.is_over = true;
            passage.asking = None;
            return passage.journey.on_request_body(self.now, Milestone::Aborted);
        }
        if there > max && !allows_partial {
            return self.answer_question(passage, Answer::TooLong);
        }
        if upload.has_end || there >= max {
            let bytes = Bytes::from(vec![0; usize::try_from(there.min(max)).unwrap_or(usize::MAX)]);
            let gathered = Answer::Gathered(Some(Beginning { bytes, read: there }));
            self.answer_question(passage, gathered);
        }
    }

    /// Asks the service behind a cluster, over the connections that requests go by.
    fn inquire(&mut self, passage: &mut Passage<T>, about: &AboutRequest) {
        let settings = about.of.settings();
        let here = &mut self.proxies[passage.proxy.index()];
        let found = here.fleet.clusters().map(|(id, _)| id);
        let found = found.into_iter().find(|id| here.snapshot.cluster(*id).name == settings.cluster());
        let Some(cluster) = found else { return self.answer_question(passage, Answer::Nobody) };
        let is_grpc = matches!(settings.service, ExternalService::Grpc(_));
        let facts = ShadowFacts {
            // As the proxy has it: it is told of the endpoint before whoever waits gives up.
            response_timeout: Some(settings.timeout.saturating_sub(Duration::from_millis(1))),
            idle_timeout: None,
            is_grpc,
            has_ended: true,
        };
        let worker = &mut here.workers[passage.worker];
        let view = here.fleet.seen_by(passage.worker);
        let begun = Shadow::begin(self.now, here.snapshot, cluster, &facts, &mut worker.core, &view);
        let Ok(shadow) = begun else { return self.answer_question(passage, Answer::Nobody) };
        worker.copies += 1;
        let key = self.passages.reserve();
        let begins = shadow.not_before().unwrap_or(self.now).max(self.now);
        let method = if is_grpc { http::Method::POST } else { about.method.clone() };
        let beside = Box::new(Passage {
            deadline: None,
            is_idempotent: method.is_idempotent(),
            method,
            client_is_http2: false,
            copied: Some(Box::new(Copied {
                shadow,
                mirror: None,
                hearing: None,
                asked_for: Some(passage.key),
                grpc_status: None,
                said: None,
                took: Duration::ZERO,
            })),
            ..passage.another(key, Journey::refuse(self.now, passage.journey.chain(), Reason::Overloaded))
        });
        passage.asking = Some(Asking::Service(key));
        self.queue.push(begins, Event::Request(key, News::Turn));
        self.await_copy(beside);
    }

    /// What a service has said of a request, or that it says nothing.
    pub(super) fn on_judged(&mut self, key: Key, said: Option<(u16, Option<Box<HeaderMap>>)>) {
        let Some(mut passage) = self.passages.take(key) else { return };
        if !matches!(passage.asking, Some(Asking::Service(_))) {
            return self.passages.put(passage);
        }
        let judged = match passage.journey.question() {
            Some(Question::Judge(about)) => said.map(|(status, headers)| {
                let headers = headers.map_or_else(HeaderMap::new, |headers| *headers);
                judge(about, status, &headers)
            }),
            _ => None,
        };
        let answer = judged.flatten().map_or(Answer::Nobody, |judged| Answer::Judged(Box::new(judged)));
        let answer = self.around.answers.insert(answer);
        self.queue.push(self.now, Event::Request(key, News::Answered(answer)));
        passage.asking = Some(Asking::Answer(Some(answer)));
        self.passages.put(passage);
    }

    fn ask_store(&mut self, passage: &mut Passage<T>, asked: &Asked) {
        let now = self.now;
        let here = &mut self.proxies[passage.proxy.index()];
        let known = here.workers[passage.worker].stores.entry(asked.store.clone()).or_default();
        match self.around.ask(now, &asked.store, asked.within, known) {
            Fate::Nobody => passage.journey.on_answer(now, Answer::Nobody),
            // Its own deadline ends it.
            Fate::Silence => passage.asking = Some(Asking::Answer(None)),
            Fate::After(time) => {
                // It is counted when it comes to the store, whoever waits for the answer.
                let level = here.fleet.surge_level.get();
                let told = self.around.spend(now, here.snapshot, level, asked);
                let answer = self.around.answers.insert(Answer::Spent(told));
                passage.asking = Some(Asking::Answer(Some(answer)));
                self.queue.push(now + time, Event::Request(passage.key, News::Answered(answer)));
            }
        }
    }

    /// What is to be said of stores, the oldest first, and of which proxy, if of one.
    #[inline]
    pub fn next_store_note(&mut self) -> Option<(Option<ProxyId>, String)> {
        self.around.noted.pop_front()
    }

    /// An answer that had been on its way is there.
    pub(super) fn hear_answer(&mut self, passage: &mut Passage<T>, answer: Ticket) {
        if passage.asking == Some(Asking::Answer(Some(answer)))
            && let Some(answer) = self.around.answers.remove(answer)
        {
            self.answer_question(passage, answer);
        }
    }
}

/// What an answer with this status means. Of one that is asked by gRPC, the status stands for what its message says: it
/// lets pass with 200, refuses with what is below 500, and says nothing else.
fn judge(about: &AboutRequest, status: u16, headers: &HeaderMap) -> Option<Judgement> {
    if matches!(about.of.settings().service, ExternalService::Http(_)) {
        return Some(about.of.judge_http(status, headers, Bytes::new()));
    }
    match status {
        200 => Some(about.of.judge_grpc(CheckResponse::default())),
        500.. => None,
        status => {
            let denied = Some(Denied { status, ..Denied::default() });
            Some(about.of.judge_grpc(CheckResponse { code: 7, denied, ..CheckResponse::default() }))
        }
    }
}
