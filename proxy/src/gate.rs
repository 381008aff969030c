//! The checks of a request, carried out: counts that workers share, and questions that take time.
//!
//! What is decided is in `naru_journey::gate`. Here is who knows: [`SharedQuotas`] keeps counts for all workers. A
//! question is answered while the passage is watched as at any other wait, so that its deadline, its client and its
//! body are heard; whatever answers late has nobody to tell.

mod counts;
mod credentials;
mod exchange;
mod external;
mod leases;
mod local_rates;
mod quotas;
mod rate_service;
mod stores;
mod tokens;

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use http::HeaderMap;
use naru_identity::external::Beginning;
use naru_journey::Action;
use naru_journey::edge::Upgrade;
use naru_journey::gate::{Answer, Head, Question};

pub use counts::CheckCounts;
pub use credentials::{AllCredentials, CredentialsHere, Desk, share as share_credentials};
pub use leases::{CircleStatus, Circled};
pub use local_rates::{LocalRateStatus, SharedLocalRates};
pub use quotas::{QuotaStatus, SharedQuotas};
pub use stores::{SharedStore, StoreHere, StoreStatus};
pub use tokens::{AllKeys, SharedKeys, TokensHere, check_keys};

use crate::loaded::Loaded;
use crate::settle::Passage;
use crate::upload::{Gathered, Upload};
use crate::worker::Worker;

impl Passage {
    /// Asks the checks of its gate. A request that came with its headers has them until it is sent.
    #[cold]
    pub fn hear_check(&mut self, headers: Option<&mut HeaderMap>) {
        let Some(headers) = headers else { return };
        let now = self.worker.clock.now();
        let loaded = Rc::clone(&self.loaded);
        let mut core = loaded.core.borrow_mut();
        let connection = Rc::clone(&self.connection);
        let names = connection.certified.as_ref().map(|certified| certified.names());
        let mut head = Head {
            line: &mut self.line,
            client: &self.client,
            headers,
            peer: &connection.peer,
            server_name: connection.server_name.as_deref(),
            names,
            rates: Some(&connection.rates),
        };
        self.journey.on_check(now, &loaded.snapshot, &mut head, &mut core, &loaded.clusters, &mut ());
        if self.client.asks && !self.journey.is_at_gate() {
            naru_recover::consume(headers);
        }
        drop(core);
        if !self.journey.is_at_gate()
            && let (Some(bodies), Some(upload)) = (self.journey.bodies(), &self.upload)
        {
            if let Some(decode) = bodies.decode {
                upload.inflate(decode);
            }
            let bytes_max = bodies.bytes_max.unwrap_or(u64::MAX);
            // What is said in another protocol is no content.
            let is_content = self.client.upgrade == Upgrade::None;
            match is_content.then(|| bodies.on_request(headers)).flatten() {
                Some(coder) => upload.deflate(&coder, bytes_max, &loaded.prepared.codings),
                None => upload.limit(bytes_max),
            }
        }
        self.count_fault();
    }

    /// Has what a check asks answered. Returns what the journey asks for meanwhile.
    pub async fn ask(&mut self) -> Option<Action> {
        let question = match self.journey.question()?.clone() {
            Question::File(asked) => return self.find_file(*asked).await,
            question => question,
        };
        let loaded = Rc::clone(&self.loaded);
        let worker = Rc::clone(&self.worker);
        let about = external::About {
            connection: Rc::clone(&self.connection),
            began: self.journey.so_far(self.worker.clock.now()).began,
        };
        let upload = self.upload.clone();
        let mut answer = pin!(answer_to(&worker, &loaded, &about, upload.as_ref(), question));
        let answered = poll_fn(|cx| match answer.as_mut().poll(cx) {
            Poll::Ready(answer) => Poll::Ready(Ok(answer)),
            Poll::Pending => self.poll_watch(cx).map(Err),
        });
        match answered.await {
            Ok(answer) => {
                self.journey.on_answer(self.worker.clock.now(), answer);
                None
            }
            Err(action) => Some(action),
        }
    }
}

async fn answer_to(
    worker: &Rc<Worker>,
    loaded: &Rc<Loaded>,
    about: &external::About,
    upload: Option<&Rc<Upload>>,
    question: Question,
) -> Answer {
    match question {
        Question::Who(shown) => Answer::Who(loaded.credentials.find(shown).await),
        Question::Judge(asking) => {
            let judged = external::judge(worker, loaded, about, asking).await;
            judged.map_or(Answer::Nobody, |judgement| Answer::Judged(Box::new(judgement)))
        }
        Question::Limit(asking) => {
            let said = rate_service::ask(worker, loaded, &asking).await;
            said.map_or(Answer::Nobody, |answer| Answer::Limited(Box::new(answer)))
        }
        Question::Gather { bytes_max, allows_partial } => {
            let Some(upload) = upload else { return Answer::Gathered(None) };
            match poll_fn(|cx| upload.poll_gather(cx, bytes_max.into(), allows_partial)).await {
                Gathered::Beginning { bytes, read } => Answer::Gathered(Some(Beginning { bytes, read })),
                Gathered::TooLong => Answer::TooLong,
                // The journey hears of it.
                Gathered::Broken => std::future::pending().await,
            }
        }
        Question::Read(reading) => Answer::Read(tokens::read(worker, loaded, reading).await),
        Question::Spend(asked) => {
            let Some(store) = loaded.stores.get(&asked.store) else { return Answer::Nobody };
            let Some(told) = store.spend(&loaded.snapshot, &loaded.clusters.surged, &asked).await else {
                return Answer::Nobody;
            };
            loaded.clusters.quotas.count(&asked.claims, told.spent);
            Answer::Spent(told)
        }
        // Whoever asks keeps what is found.
        Question::File(_) => Answer::Nobody,
    }
}
