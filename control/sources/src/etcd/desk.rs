//! What is asked of an etcd once: what is there, what was there, and to write something else.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use naru_etcd::proto::{TxnResponse, WatchRequest, WatchResponse};
use naru_etcd::{Heard, Keys, Past, Revision, Written, change, method, name_of};

use super::call::{Session, Trouble};
use super::{Settings, call::Stream};
use crate::Texts;

/// All that etcd still knows of the past is sent within this time.
const PAST_TIME_MAX: Duration = Duration::from_secs(30);
/// Of those that differ, so many are named.
const NAMED_MAX: usize = 3;

/// A connection to one of the endpoints.
#[derive(Debug)]
pub struct Desk {
    session: Session,
    prefix: String,
}

/// What became of a wish to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is so already, since this revision or before.
    Same(i64),
    Written {
        revision: i64,
        puts: Vec<String>,
        removes: Vec<String>,
    },
    /// Nothing is written: somebody else has written meanwhile, these among others; none where he has removed something.
    Behind(Vec<String>),
}

impl Desk {
    /// The first endpoint that answers.
    pub async fn open(settings: &Settings) -> Result<Desk, Trouble> {
        let mut last = Trouble::Ours("no endpoint is named".to_owned());
        for endpoint in &settings.endpoints {
            match Session::open(settings, endpoint).await {
                Ok(session) => return Ok(Desk { session, prefix: settings.prefix.clone() }),
                // A password that is wrong here is wrong everywhere.
                Err(refused @ Trouble::Refused { .. }) => return Err(refused),
                Err(trouble) => last = trouble,
            }
        }
        Err(last)
    }

    /// The documents of a revision, 0 being the newest; and its number.
    pub async fn texts(&self, revision: i64) -> Result<(i64, Texts), Trouble> {
        let keys = self.session.read(&self.prefix, revision).await?;
        let files = keys.files().map(|(name, value)| (name, String::from_utf8_lossy(value).into_owned()));
        Ok((keys.revision(), Texts { files: files.collect() }))
    }

    /// Documents of a revision by what stands behind the prefix in their keys.
    pub async fn files(&self, revision: i64) -> Result<BTreeMap<String, String>, Trouble> {
        let keys = self.session.read(&self.prefix, revision).await?;
        let files = keys.kept().iter().filter(|(key, _)| keys.is_file(key)).map(|(key, kept)| {
            let name = String::from_utf8(key.get(self.prefix.len()..).unwrap_or_default().to_vec());
            let name = name.map_err(|_| Trouble::Ours(format!("{} is no name of a file", name_of(key))))?;
            Ok((name, String::from_utf8_lossy(&kept.value).into_owned()))
        });
        files.collect()
    }

    /// What has changed, the oldest first, as far as etcd knows; and the newest revision.
    pub async fn past(&self) -> Result<(i64, Vec<Revision>), Trouble> {
        let read = tokio::time::timeout(PAST_TIME_MAX, self.read_past()).await;
        read.unwrap_or_else(|_| Err(Trouble::Lost(format!("it has not told all within {PAST_TIME_MAX:?}"))))
    }

    async fn read_past(&self) -> Result<(i64, Vec<Revision>), Trouble> {
        let now = self.session.read(&self.prefix, 0).await?;
        let mut past = Past::new(Keys::new(&self.prefix));
        let mut stream = self.watch(&past).await?;
        loop {
            let message = stream.next().await?;
            let response: WatchResponse = naru_etcd::read(&message).ok_or_else(|| self.session.foreign())?;
            match past.hear(response).map_err(Trouble::TooMuch)? {
                Heard::Nothing | Heard::Changed => {}
                Heard::Over(why) => return Err(Trouble::Lost(why)),
                Heard::Compacted(oldest) => {
                    past = Past::new(self.session.read(&self.prefix, oldest).await?);
                    stream = self.watch(&past).await?;
                }
            }
            if past.is_at(&now) || past.keys().revision() >= now.revision() {
                return Ok((now.revision(), past.revisions().cloned().collect()));
            }
        }
    }

    async fn watch(&self, past: &Past) -> Result<Stream, Trouble> {
        let create = WatchRequest { create: Some(past.keys().watch()) };
        self.session.stream(method::WATCH, &naru_etcd::write(&create)).await
    }

    /// These become all that there is, if what there is was there at `since` already, where that is said. `mark` says
    /// who writes.
    pub async fn write(
        &self,
        files: &BTreeMap<String, String>,
        since: Option<i64>,
        mark: &str,
    ) -> Result<Outcome, Trouble> {
        let now = self.session.read(&self.prefix, 0).await?;
        if let Some(since) = since {
            let then = self.session.read(&self.prefix, since).await?;
            let differs = others(&then, &now);
            if !differs.is_empty() {
                return Ok(Outcome::Behind(differs));
            }
        }
        let wanted: BTreeMap<Bytes, Bytes> = files
            .iter()
            .map(|(name, text)| {
                let key = Bytes::from(format!("{}{name}", self.prefix));
                (key, Bytes::copy_from_slice(text.as_bytes()))
            })
            .collect();
        let Some(change) = change(&now, &wanted, mark.as_bytes()) else {
            return Ok(Outcome::Same(now.revision()));
        };
        let answer = self.session.call(method::TXN, &naru_etcd::write(&change.request)).await?;
        let answer: TxnResponse = naru_etcd::read(&answer).ok_or_else(|| self.session.foreign())?;
        Ok(match Written::of(answer) {
            Written::At(revision) => {
                Outcome::Written { revision, puts: change.puts, removes: change.removes }
            }
            Written::Behind(names) => Outcome::Behind(names),
        })
    }
}

/// Files that are not the same.
fn others(then: &Keys, now: &Keys) -> Vec<String> {
    let names = then.kept().keys().chain(now.kept().keys()).filter(|key| now.is_file(key));
    let differs = names.filter(|key| then.kept().get(*key) != now.kept().get(*key));
    let mut names: Vec<String> = differs.map(|key| name_of(key)).collect();
    names.sort();
    names.dedup();
    names.truncate(NAMED_MAX);
    names
}
