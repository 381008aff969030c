//! Which documents are below a prefix of an etcd?
//!
//! Each key is a file, each revision a transaction: all keys are read at one revision, and followed from the next one on.
//! A task of its own does that, and begins anew at another endpoint whenever it cannot go on: what was there before
//! stays until something else was read whole.
//!
//! | what happens | what is done |
//! |---|---|
//! | a connection, a call or a watch fails | the next endpoint is asked at once; after all of them a pause, longer each time |
//! | what the watch begins with was compacted away | everything is read anew |
//! | nobody leads the cluster | etcd ends the watch (`hasleader`), as if the connection was lost |
//! | there is no key | told; the documents that were there before go on |
//! | there is more than is taken | told; the same |

mod call;
mod circle;
mod desk;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::{io, str};

use naru_base::Chance;
use naru_etcd::{Heard, Keys, method};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::{ReadError, Texts};
use call::Session;

pub use call::Trouble;
pub use circle::Circle;
pub use desk::{Desk, Outcome};

/// Where nothing else is said.
pub const PREFIX: &str = "/naru/";
const PORT: u16 = 2_379;
/// Between two tries of all endpoints, at most, in the beginning and in the end.
const PAUSE_FIRST: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// A session that lasts so long was no failure.
const SETTLED_AFTER: Duration = Duration::from_secs(5);
/// As often all is read anew by one session.
const AGAIN_MAX: usize = 5;

/// How an etcd is reached.
#[derive(Clone, Debug)]
pub struct Settings {
    /// At least one.
    pub endpoints: Vec<Endpoint>,
    pub prefix: String,
    /// A name, and the file with the password.
    pub user: Option<(String, PathBuf)>,
    /// Whom `https` endpoints are checked against.
    pub ca: Option<PathBuf>,
    /// What they are shown: a certificate and its key.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// Where chance comes from.
    pub seed: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub is_tls: bool,
    pub host: String,
    pub port: u16,
}

impl str::FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Endpoint, String> {
        let wrong =
            || format!("'{text}' is no endpoint of etcd: write http://127.0.0.1:2379 or https://HOST:2379");
        let uri: http::Uri = text.parse().map_err(|_| wrong())?;
        let is_tls = match uri.scheme_str() {
            None | Some("http") => false,
            Some("https") => true,
            Some(_) => return Err(wrong()),
        };
        let authority = uri.authority().ok_or_else(wrong)?;
        // A user stands beside it, where nobody who lists processes sees the password.
        if authority.as_str().contains('@') || !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(wrong());
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(wrong());
        }
        Ok(Endpoint { is_tls, host: host.to_owned(), port: authority.port_u16().unwrap_or(PORT) })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.authority())
    }
}

impl Endpoint {
    fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

impl Settings {
    /// What people call it.
    pub fn shown(&self) -> String {
        format!("etcd:{}", self.prefix)
    }
}

/// An etcd that is followed, for as long as this is held.
#[derive(Debug)]
pub struct Etcd {
    settings: Arc<Settings>,
    seen: watch::Receiver<Seen>,
    /// What was given out last.
    known: Option<Arc<Found>>,
    /// Trouble that was told.
    told: Option<String>,
    task: JoinHandle<()>,
}

/// What is known of it.
#[derive(Clone, Debug, Default)]
struct Seen {
    found: Option<Arc<Found>>,
    /// Where it is read, while it is.
    endpoint: Option<String>,
    trouble: Option<String>,
}

/// Documents of one revision.
#[derive(Clone, Debug)]
struct Found {
    revision: i64,
    cluster: u64,
    texts: Texts,
}

/// How it stands, for people.
#[derive(Clone, Debug)]
pub struct Standing {
    /// The revision of the documents that were read last.
    pub revision: Option<i64>,
    pub endpoint: Option<String>,
    /// Why nothing newer is known.
    pub trouble: Option<String>,
}

impl Etcd {
    /// Begins to read. A runtime is entered.
    pub fn follow(settings: Settings) -> Etcd {
        let settings = Arc::new(settings);
        let (seen_tx, seen) = watch::channel(Seen::default());
        let task = tokio::spawn(follow(Arc::clone(&settings), seen_tx));
        Etcd { settings, seen, known: None, told: None, task }
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// These documents are known already, from before.
    pub fn knows(&mut self, texts: Texts) {
        self.known = Some(Arc::new(Found { revision: 0, cluster: 0, texts }));
    }

    /// The texts, once they are others than before. May be dropped and called again.
    ///
    /// # Errors
    /// They cannot be read any more; told once for each reason.
    pub async fn changed(&mut self) -> Result<Texts, ReadError> {
        loop {
            if let Some(word) = self.word() {
                return word;
            }
            if self.seen.changed().await.is_err() {
                // The task ends with this only, or by a fault that was told by itself.
                std::future::pending::<()>().await;
            }
        }
    }

    /// What there is to be said.
    fn word(&mut self) -> Option<Result<Texts, ReadError>> {
        let seen = self.seen.borrow_and_update().clone();
        if let Some(found) = &seen.found {
            let is_other = self.known.as_ref().is_none_or(|known| known.texts != found.texts);
            self.known = Some(Arc::clone(found));
            if is_other {
                self.told.clone_from(&seen.trouble);
                return Some(Ok(found.texts.clone()));
            }
        }
        match seen.trouble {
            None => {
                if self.told.take().is_some() {
                    naru_say::say!(
                        "naru: {} is read again; it says what it said before",
                        self.settings.shown()
                    );
                }
                None
            }
            Some(trouble) if self.told.as_ref() == Some(&trouble) => None,
            Some(trouble) => {
                self.told = Some(trouble.clone());
                Some(Err(ReadError {
                    path: PathBuf::from(self.settings.shown()),
                    error: io::Error::other(trouble),
                }))
            }
        }
    }

    pub fn look(&self) -> Look {
        Look(self.seen.clone())
    }
}

/// Says how it stands, whoever follows it.
#[derive(Clone, Debug)]
pub struct Look(watch::Receiver<Seen>);

impl Look {
    pub fn standing(&self) -> Standing {
        let seen = self.0.borrow();
        Standing {
            revision: seen.found.as_ref().map(|found| found.revision),
            endpoint: seen.endpoint.clone(),
            trouble: seen.trouble.clone(),
        }
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One session after another.
async fn follow(settings: Arc<Settings>, seen: watch::Sender<Seen>) {
    let mut pauses = Pauses::new(settings.seed);
    let count = settings.endpoints.len().max(1);
    let (mut turn, mut failures) = (0_usize, 0_usize);
    while let Some(endpoint) = settings.endpoints.get(turn % count) {
        turn += 1;
        let mut is_settled = false;
        let trouble = session(&settings, endpoint, &seen, &mut is_settled).await;
        if is_settled {
            failures = 0;
            pauses.reset();
        }
        failures += 1;
        seen.send_modify(|seen| {
            seen.endpoint = None;
            // While others have not been asked, nothing is lost yet.
            if failures >= count {
                seen.trouble = Some(trouble.to_string());
            }
        });
        if failures % count == 0 {
            tokio::time::sleep(pauses.draw()).await;
        }
    }
}

/// How long is waited: a moment before twice as late each time, so that not all come at once.
#[derive(Debug)]
struct Pauses {
    chance: Chance,
    bound: Duration,
}

impl Pauses {
    fn new(seed: u64) -> Pauses {
        Pauses { chance: Chance::split(seed, "etcd"), bound: PAUSE_FIRST }
    }

    fn reset(&mut self) {
        self.bound = PAUSE_FIRST;
    }

    fn draw(&mut self) -> Duration {
        let bound = self.bound;
        self.bound = (bound * 2).min(PAUSE_MAX);
        let span = u64::try_from(bound.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(self.chance.below(span + 1))
    }
}

/// Reads and follows until that cannot go on. Says why.
async fn session(
    settings: &Settings,
    endpoint: &Endpoint,
    seen: &watch::Sender<Seen>,
    is_settled: &mut bool,
) -> Trouble {
    let session = match Session::open(settings, endpoint).await {
        Ok(session) => session,
        Err(trouble) => return trouble,
    };
    let settled = tokio::time::sleep(SETTLED_AFTER);
    tokio::pin!(settled);
    let mut again = 0;
    loop {
        let mut keys = match session.read(&settings.prefix, 0).await {
            Ok(keys) => keys,
            Err(trouble) => return trouble,
        };
        tell(settings, endpoint, seen, &keys);
        let create = naru_etcd::proto::WatchRequest { create: Some(keys.watch()) };
        let mut watched = match session.stream(method::WATCH, &naru_etcd::write(&create)).await {
            Ok(watched) => watched,
            Err(trouble) => return trouble,
        };
        loop {
            let message = tokio::select! {
                biased;
                message = watched.next() => message,
                () = &mut settled, if !*is_settled => {
                    *is_settled = true;
                    continue;
                }
            };
            let response = match message {
                Ok(message) => naru_etcd::read(&message),
                // Page by page it may be less at a time; or that says which key it is.
                Err(Trouble::TooLarge) if again < AGAIN_MAX => {
                    again += 1;
                    break;
                }
                Err(trouble) => return trouble,
            };
            let Some(response) = response else {
                return Trouble::Foreign("what it says on a watch is no response".to_owned());
            };
            match keys.hear(response) {
                Ok(Heard::Nothing) => {}
                Ok(Heard::Changed) => tell(settings, endpoint, seen, &keys),
                Ok(Heard::Over(why)) => return Trouble::Lost(format!("{endpoint}: {why}")),
                Ok(Heard::Compacted(_)) if again < AGAIN_MAX => {
                    again += 1;
                    break;
                }
                Ok(Heard::Compacted(at)) => {
                    return Trouble::Lost(format!("{endpoint}: it is compacted all the time, up to {at}"));
                }
                Err(much) => return Trouble::TooMuch(much),
            }
        }
    }
}

/// This is what is there now.
fn tell(settings: &Settings, endpoint: &Endpoint, seen: &watch::Sender<Seen>, keys: &Keys) {
    let files: Vec<(String, String)> = keys
        .files()
        // What is not UTF-8 is told by the reader of the document, with its line.
        .map(|(name, value)| (name, String::from_utf8_lossy(value).into_owned()))
        .collect();
    seen.send_modify(|seen| {
        let now = endpoint.to_string();
        if seen.endpoint.as_ref() != Some(&now) {
            seen.endpoint = Some(now);
        }
        // An etcd that has lost everything, or another one in its place, takes nothing down.
        if files.is_empty() {
            let why = format!("there is no key below '{}'; what was there before goes on", settings.prefix);
            seen.trouble = Some(why);
            return;
        }
        seen.trouble = None;
        let is_other =
            |before: &Arc<Found>| before.cluster != keys.cluster() || before.revision > keys.revision();
        if seen.found.as_ref().is_some_and(is_other) {
            naru_say::say!("naru: {endpoint} is another etcd than before, or has lost what it knew");
        }
        let texts = Texts { files };
        seen.found = Some(Arc::new(Found { revision: keys.revision(), cluster: keys.cluster(), texts }));
    });
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Endpoint, PAUSE_FIRST, PAUSE_MAX, Pauses};

    #[test]
    fn an_endpoint_is_an_address_and_nothing_else() {
        let check = |text: &str, expected: &str| {
            let found = text.parse::<Endpoint>();
            assert_eq!(found.map(|endpoint| endpoint.to_string()).unwrap_or_default(), expected, "{text}");
        };
        check("http://127.0.0.1:2379", "http://127.0.0.1:2379");
        check("127.0.0.1:2379", "http://127.0.0.1:2379");
        check("https://etcd-1.local", "https://etcd-1.local:2379");
        check("https://[::1]:99/", "https://[::1]:99");
        for wrong in
            ["", "ftp://a:1", "http://me:secret@a:1", "http://a/v3", "http://a:1?x", "/etcd", "http://:1"]
        {
            check(wrong, "");
        }
    }

    #[test]
    fn pauses_become_longer_and_stay_bounded() {
        let mut pauses = Pauses::new(7);
        let mut bound = PAUSE_FIRST;
        for _ in 0..20 {
            assert!(pauses.draw() <= bound);
            bound = (bound * 2).min(PAUSE_MAX);
        }
        let long: Duration = (0..100).map(|_| pauses.draw()).sum();
        assert!(long > PAUSE_MAX * 20 && long <= PAUSE_MAX * 100);
        pauses.reset();
        assert!(pauses.draw() <= PAUSE_FIRST);
    }
}
