//! A request comes in: the counterpart of `engine::begin`.

use std::time::Duration;

use http::HeaderValue;
use naru_base::Reason;
use naru_journey::arrival::{Wish, receive};
use naru_journey::{Journey, Observer, RequestFacts};
use naru_recover::layer;
use naru_spec::SessionAuth;

use super::{Event, News, Turn, Waits, World, name_of, sends_max};
use crate::asker::Asker;
use crate::judge::Violation;
use crate::passage::{KeptHead, Key, Passage, Upload};
use crate::request::Request;
use crate::upstream::{ProxyId, Upstreams};

impl<'a, U: Upstreams, T: Copy> World<'a, U, T> {
    /// A request arrives at the first proxy, on a connection that `worker` has accepted. Its client
    /// leaves after `patience`, if it has an end. The request may be over at once.
    pub fn begin(
        &mut self,
        worker: usize,
        request: &Request,
        patience: Option<Duration>,
        tag: T,
        observer: &mut impl Observer,
    ) -> Result<Turn<'a, T>, Violation> {
        let waits = Waits { patience, ..Waits::default() };
        self.begin_at(ProxyId(0), worker, request, waits, tag, observer).1
    }

    /// The same at any proxy. The key is for [`World::abandon`].
    pub fn begin_at(
        &mut self,
        proxy: ProxyId,
        worker: usize,
        request: &Request,
        waits: Waits,
        tag: T,
        observer: &mut impl Observer,
    ) -> (Key, Result<Turn<'a, T>, Violation>) {
        let here = &mut self.proxies[proxy.index()];
        let snapshot = here.snapshot;
        let worker = worker % here.workers.len();
        let http = &snapshot.chain(request.chain).http;
        let core = &mut here.workers[worker].core;
        let mut head = request.head.clone();
        if waits.is_repeat {
            head.headers.insert(layer::ATTEMPT, HeaderValue::from_static("2"));
        }
        let mut arrival = receive(&mut head, http, &request.peer, core);
        if let Some(door) =
            snapshot.chain(request.chain).door.as_ref().filter(|_| arrival.wish == Wish::Route)
        {
            let view = here.fleet.seen_by(worker);
            let refused = door.meet(arrival.client.address.ip(), &mut head.headers, &view);
            arrival.wish = refused.map_or(Wish::Route, Wish::Refuse);
        }
        // It says itself how long it is.
        if arrival.wish == Wish::Route && http.body_bytes_max.is_some_and(|max| request.body.bytes > max) {
            arrival.wish = Wish::Refuse(Reason::BodyTooLarge);
        }
        let mut session = None;
        let chain = snapshot.chain(request.chain);
        if let Some(asker) = &request.asker {
            let places = &here.places[request.chain.0 as usize];
            asker.dress(places, &mut head.headers, &mut arrival.line.path);
        }
        let authority = arrival.line.authority.as_ref().and_then(|host| host.to_str().ok()).unwrap_or("");
        let sessions = &chain.http.sessions;
        if let Some(auth) = SessionAuth::of_host(sessions, authority).and_then(|at| sessions.get(at)) {
            let (asker, line) = (request.asker.as_deref(), &arrival.line);
            let met =
                Asker::meet(asker, auth, &line.method, line.path.path(), &mut head.headers, arrival.wish);
            (arrival.wish, session) = met;
        }
        let key = self.passages.reserve();
        let of_head = RequestFacts::of(&head.method, &head.headers, &arrival.client, request.body.is_empty());
        let facts =
            RequestFacts { trace: if waits.trace == 0 { name_of(key) } else { waits.trace }, ..of_head };
        let draw = core.draw_request();
        let subject = arrival.line.subject(&head.headers, &arrival.client, draw);
        let journey = match arrival.wish {
            Wish::Refuse(reason) => Journey::refuse(self.now, request.chain, reason),
            // There is nothing in a simulated tunnel.
            Wish::Tunnel | Wish::Upgrade => Journey::refuse(self.now, request.chain, Reason::UpgradeRefused),
            Wish::Route => Journey::begin(
                self.now,
                snapshot,
                request.chain,
                &subject,
                facts,
                core,
                &here.fleet.seen_by(worker),
                observer,
            ),
        };
        let has_session = session.is_some();
        let mut journey = journey;
        if let Some(token) = session {
            journey.know_session(token);
        }
        let is_in_fault = journey.is_in_fault();
        if is_in_fault {
            here.fleet.shared.faults.update(|count| count + 1);
        }
        let mut passage = Box::new(Passage {
            key,
            tag,
            proxy,
            worker,
            deadline: waits.deadline,
            origin: waits.origin,
            is_grpc: arrival.client.is_grpc,
            is_head: head.method == http::Method::HEAD,
            is_idempotent: head.method.is_idempotent(),
            method: head.method.clone(),
            head: None,
            asker: request.asker.clone(),
            has_session,
            cached: None,
            asking: None,
            copied: None,
            copies: None,
            client_is_http2: head.version >= http::Version::HTTP_2,
            is_repeat: facts.repeats.is_repeat,
            trace: facts.trace,
            is_in_fault,
            upload: (!facts.has_ended).then(|| Upload::new(request.body)),
            permit: None,
            flight: None,
            beside: Vec::new(),
            is_retrying: false,
            is_at_limit: false,
            says_exhausted: false,
            tick: None,
            leaves: None,
            bytes_sent: 0,
            heads: 0,
            sends: 0,
            sends_max: sends_max(snapshot, &journey),
            journey,
        });
        let has_memory = here.memory.is_some();
        self.expect_upload(&passage);
        if passage.journey.is_at_gate() || has_memory {
            let (line, client, peer) = (arrival.line.clone(), arrival.client, request.peer);
            passage.head = Some(Box::new(KeptHead { line, client, headers: head.headers.clone(), peer }));
        }
        let told = waits.deadline.map(|deadline| deadline.max(self.now));
        let leaves = [waits.patience.map(|patience| self.now + patience), told];
        if let Some(at) = leaves.into_iter().flatten().min() {
            passage.leaves = Some(self.queue.push(at, Event::Request(key, News::ClientLeaves)));
        }
        (key, self.conclude(passage, Some(&subject)))
    }
}
