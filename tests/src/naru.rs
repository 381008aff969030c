//! The data plane, in the process of its test.

use std::net::SocketAddr;

use naru_base::Reason;
use naru_journey::Snapshot;
use naru_proxy::{
    ClusterStatus, NamedLimitStatus, Options, Proxy, QuotaStatus, Report, StartError, StoreStatus,
    StrainStatus,
};
use naru_spec::Config;

use crate::{Bootstrap, until, within};

/// A data plane with one listener.
#[derive(Debug)]
pub struct Naru {
    proxy: Option<Proxy>,
    pub address: SocketAddr,
}

impl Naru {
    /// One worker, so that what is counted is counted in one place.
    pub fn start(bootstrap: &Bootstrap) -> Naru {
        Naru::start_with(bootstrap, &Options { workers: 1, seed: Some(1) })
    }

    pub fn start_with(bootstrap: &Bootstrap, options: &Options) -> Naru {
        Naru::try_start(bootstrap, options).unwrap_or_else(|error| panic!("{error}"))
    }

    /// On a whole file, for what a [`Bootstrap`] has no words for.
    pub fn on(text: &str) -> Naru {
        let options = Options { workers: 1, seed: Some(1) };
        Naru::try_start_on(compile_text(text), &options).unwrap_or_else(|error| panic!("{error}"))
    }

    pub fn try_start(bootstrap: &Bootstrap, options: &Options) -> Result<Naru, StartError> {
        Naru::try_start_on(compile(bootstrap), options)
    }

    pub fn start_on(config: Config, options: &Options) -> Naru {
        Naru::try_start_on(compile_config(config), options).unwrap_or_else(|error| panic!("{error}"))
    }

    fn try_start_on(snapshot: Snapshot, options: &Options) -> Result<Naru, StartError> {
        let proxy = Proxy::start(snapshot, options)?;
        let address = proxy.addresses()[0];
        Ok(Naru { proxy: Some(proxy), address })
    }

    fn proxy(&self) -> &Proxy {
        self.proxy.as_ref().unwrap()
    }

    /// Puts another file in force.
    pub async fn update(&self, text: &str) {
        self.try_update(text).await.unwrap_or_else(|error| panic!("{error}"));
    }

    /// # Errors
    /// Nothing has changed, and why.
    pub async fn try_update(&self, text: &str) -> Result<(), StartError> {
        within("an update", self.proxy().update(compile_text(text))).await
    }

    /// What checks have said, and how often.
    pub fn checks(&self) -> Vec<(&'static str, &'static str, u64)> {
        self.proxy().checks()
    }

    /// Files that are read again when they change.
    pub fn files(&self) -> Vec<naru_proxy::FileStatus> {
        self.proxy().files()
    }

    /// As [`Naru::update`], for tests that have no time to read a file again and again.
    pub async fn update_to(&self, config: Config) {
        self.try_update_to(config).await.unwrap_or_else(|error| panic!("{error}"));
    }

    /// # Errors
    /// Nothing has changed, and why.
    pub async fn try_update_to(&self, config: Config) -> Result<(), StartError> {
        within("an update", self.proxy().update(compile_config(config))).await
    }

    /// Where all listeners listen.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.proxy().addresses()
    }

    /// Waits until no request uses a snapshot from before.
    pub async fn forgets_old_snapshots(&self) {
        until("old snapshots to go", async || (self.proxy().snapshots_in_use() == 1).then_some(())).await;
    }

    pub fn snapshots_in_use(&self) -> usize {
        self.proxy().snapshots_in_use()
    }

    pub async fn report(&self) -> Report {
        assert!(!self.proxy().has_ended(), "the workers are gone: one has panicked");
        self.proxy().report().await
    }

    /// How many answers went; `None` where none are kept.
    pub fn cache(&self) -> Option<naru_proxy::CacheStatus> {
        self.proxy().cache()
    }

    pub async fn purge(&self, purge: &naru_cache::Purge) -> Option<naru_proxy::Purged> {
        self.proxy().purge(purge).await
    }

    /// Goes to a level of its `Surge`, and stays there.
    pub fn order_surge(&self, order: naru_proxy::SurgeOrder) -> Option<naru_proxy::SurgeStatus> {
        self.proxy().order_surge(order)
    }

    /// Ends a token or a session by its id.
    pub async fn end_session(&self, name: &str, id: &str) -> Option<bool> {
        self.proxy().end_session(name, id.parse().ok()?).await
    }

    /// Ends all sessions of somebody.
    pub async fn end_subject(&self, name: &str, subject: &str) -> Option<naru_proxy::SessionsEnded> {
        self.proxy().end_subject(name, subject.to_owned()).await
    }

    pub fn named_limits(&self) -> Vec<NamedLimitStatus> {
        self.proxy().named_limits()
    }

    pub fn codings(&self) -> Vec<naru_proxy::CodingStatus> {
        self.proxy().codings()
    }

    pub fn quotas(&self) -> Vec<QuotaStatus> {
        self.proxy().quotas()
    }

    pub fn stores(&self) -> Vec<StoreStatus> {
        self.proxy().stores()
    }

    pub fn clusters(&self) -> Vec<ClusterStatus> {
        self.proxy().clusters()
    }

    /// How short it runs itself.
    pub fn strain(&self) -> StrainStatus {
        self.proxy().strain()
    }

    /// How the first `count` requests ended, in the order of their statuses: waits until so many have.
    pub async fn ended(&self, count: u64) -> Vec<(u16, Reason)> {
        until(&format!("{count} requests to end"), async || {
            let report = self.report().await;
            let ended: u64 = report.series.iter().map(|series| series.requests()).sum();
            assert!(ended <= count, "more than {count} requests: {:?}", endings(&report));
            (ended == count).then(|| endings(&report))
        })
        .await
    }

    /// Waits until nothing is under way: no connection of a client, no request, no timer, at no
    /// endpoint. Connections to upstreams may wait for the next request.
    pub async fn settles(&self) {
        let mut last = Report::default();
        let settled = async {
            loop {
                last = self.report().await;
                if active(&last, &self.clusters(), &self.named_limits()).is_empty() {
                    break;
                }
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
        };
        let result = tokio::time::timeout(crate::wait::PATIENCE, settled).await;
        assert!(result.is_ok(), "still active: {:?}", active(&last, &self.clusters(), &self.named_limits()));
    }

    /// Connections that stand, to all upstreams.
    pub async fn upstream_connections(&self) -> u64 {
        self.report().await.clusters.iter().map(|cluster| cluster.connections_active).sum()
    }

    /// Takes no more connections.
    pub fn drain(&self) {
        self.proxy().drain();
    }

    /// Takes no more connections, as if another process had taken over.
    pub async fn is_succeeded(&self) {
        within("nothing to be accepted any more", self.proxy().leave_to_others()).await;
    }

    /// How many sockets it could give to another process.
    pub async fn sockets(&self) -> usize {
        let lent = within("sockets to be lent", self.proxy().lend()).await.unwrap();
        lent.iter().map(|listener| listener.sockets.len()).sum()
    }

    /// The first worker panics.
    pub fn provoke_worker(&self) {
        self.proxy().provoke_worker();
    }

    /// Every connection that is open panics.
    pub fn provoke_panics(&self) {
        self.proxy().provoke_panics();
    }

    pub fn is_ready(&self) -> bool {
        self.proxy().is_ready()
    }

    pub fn has_ended(&self) -> bool {
        self.proxy().has_ended()
    }

    /// Drains, waits for the end and says what is left at the endpoints.
    pub async fn ends(mut self) -> Vec<ClusterStatus> {
        let proxy = self.proxy.take().unwrap();
        proxy.drain();
        let ended = async {
            while !proxy.has_ended() {
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
        };
        within("the workers to end", ended).await;
        proxy.clusters()
    }
}

/// Waiting for the threads here would keep the test's own end of a connection from closing it.
impl Drop for Naru {
    fn drop(&mut self) {
        if let Some(proxy) = self.proxy.take() {
            proxy.drain();
            std::mem::forget(proxy);
        }
    }
}

pub fn compile(bootstrap: &Bootstrap) -> Snapshot {
    compile_config(config(bootstrap))
}

/// With what its file has no words for.
pub fn config(bootstrap: &Bootstrap) -> Config {
    let mut config = read(&bootstrap.text());
    for listener in &mut config.listeners {
        listener.chains.iter_mut().for_each(|chain| chain.http.tunnels = bootstrap.has_tunnels());
    }
    config
}

fn compile_text(text: &str) -> Snapshot {
    compile_config(read(text))
}

fn compile_config(config: Config) -> Snapshot {
    Snapshot::compile(config).unwrap_or_else(|problems| panic!("{problems:?}"))
}

pub fn read(text: &str) -> Config {
    let loaded = naru_xds::load("test.yaml", text).unwrap_or_else(|problems| {
        let problems: String = problems.iter().map(|problem| format!("{problem}\n")).collect();
        panic!("{problems}\n{text}")
    });
    loaded.config
}

fn endings(report: &Report) -> Vec<(u16, Reason)> {
    let mut all = Vec::new();
    for series in &report.series {
        all.extend((0..series.requests()).map(|_| (series.labels.status, series.labels.reason)));
    }
    all.sort();
    all
}

/// What is not zero, and should be when nothing is under way.
fn active(report: &Report, clusters: &[ClusterStatus], limits: &[NamedLimitStatus]) -> Vec<(String, u64)> {
    let mut counts = vec![
        ("connections of clients".to_owned(), report.downstream.connections_active),
        ("requests".to_owned(), report.downstream.requests_active),
        ("timers".to_owned(), report.timers),
        ("copies".to_owned(), report.copies_active),
        ("bytes that copies hold".to_owned(), report.copies_bytes),
    ];
    for cluster in &report.clusters {
        counts.push((format!("requests at {}", cluster.name), cluster.requests_active));
    }
    for status in clusters {
        let limits = &status.limits;
        counts.push((format!("requests that wait for {}", status.name), limits.pending));
        counts.push((format!("requests that are limited at {}", status.name), limits.requests));
        let standing = report.clusters.iter().find(|cluster| *cluster.name == *status.name);
        let standing = standing.map_or(0, |cluster| cluster.connections_active);
        let astray = limits.connections.abs_diff(standing);
        counts.push((format!("connections counted wrongly for {}", status.name), astray));
        for endpoint in &status.endpoints {
            counts.push((
                format!("requests at {} {}", status.name, endpoint.address),
                u64::from(endpoint.active),
            ));
        }
    }
    for limit in limits {
        counts.push((format!("requests behind {} {}", limit.kind, limit.name), limit.active));
        counts.push((format!("requests that wait at {} {}", limit.kind, limit.name), limit.waiting));
    }
    counts.retain(|(_, count)| *count > 0);
    counts
}
