//! What guards and limits clusters is told what happened, and carries on: the counterpart of those tasks of the proxy
//! that keep the time of a guard or a limit, and of `prober.rs`.
//!
//! Nothing here waits for a request, and no request for what is here: these events alone keep no run alive.

use naru_base::{ClusterId, EndpointId, Instant};
use naru_guard::{EndpointKey, ProbeResult};
use naru_journey::Report;
use naru_journey::limits::{LimitId, Queued};

use super::{Event, News, World};
use crate::change::StateChange;
use crate::passage::Passage;
use crate::upstream::{Probed, ProxyId, Upstreams};

/// What came of a probe.
#[derive(Clone, Copy, Debug)]
pub(super) struct ProbeAnswer {
    pub proxy: ProxyId,
    pub cluster: ClusterId,
    endpoint: EndpointKey,
    number: u32,
    result: ProbeResult,
    stays: bool,
}

impl<U: Upstreams, T: Copy> World<'_, U, T> {
    pub(super) fn start_guards(&mut self, proxy: ProxyId) {
        let guarded: Vec<ClusterId> = self.fleet_of(proxy).guarded().map(|(id, _)| id).collect();
        for cluster in guarded {
            self.look_after(proxy, cluster);
        }
        self.hear_shared(proxy);
    }

    /// Tells whoever guards the cluster what became of an attempt.
    #[inline]
    pub(super) fn report(&mut self, passage: &mut Passage<T>) {
        while let Some(report) = passage.journey.take_report() {
            let (now, proxy) = (self.now, passage.proxy);
            // Who picked the endpoint learns of it as well.
            self.proxies[proxy.index()].workers[passage.worker].core.on_report(now, &report);
            self.report_to_guard(proxy, &report);
        }
    }

    pub(super) fn report_to_guard(&mut self, proxy: ProxyId, report: &Report) {
        if let Some(guarded) = self.proxies[proxy.index()].fleet.guarded_mut(report.cluster) {
            guarded.on_report(self.now, report);
            self.look_after(proxy, report.cluster);
        }
    }

    pub(super) fn tick_guard(&mut self, proxy: ProxyId, cluster: ClusterId) {
        let now = self.now;
        let Some(guarded) = self.proxies[proxy.index()].fleet.guarded_mut(cluster) else { return };
        // Meanwhile there may have been an earlier moment.
        if guarded.tick_at == Some(now) {
            guarded.tick_at = None;
            guarded.tick(now);
            self.look_after(proxy, cluster);
        }
    }

    pub(super) fn on_probed(&mut self, answer: &ProbeAnswer) {
        let ProbeAnswer { proxy, cluster, endpoint, number, result, stays } = *answer;
        let now = self.now;
        if let Some(guarded) = self.proxies[proxy.index()].fleet.guarded_mut(cluster) {
            guarded.on_probe(now, endpoint, number, result, stays);
            self.look_after(proxy, cluster);
        }
    }

    /// Does what a guard asks for, and passes on what it says.
    fn look_after(&mut self, proxy: ProxyId, cluster: ClusterId) {
        while let Some((endpoint, key, number, is_connected)) = self.next_probe(proxy, cluster) {
            self.probe(proxy, cluster, endpoint, key, number, is_connected);
        }
        while let Some((endpoint, change)) = self.next_note(proxy, cluster) {
            self.note(proxy, cluster, endpoint, change);
        }
        let now = self.now;
        let Some(guarded) = self.proxies[proxy.index()].fleet.guarded_mut(cluster) else { return };
        if cfg!(debug_assertions)
            && let Err(what) = guarded.check_invariants()
        {
            self.broken = Some(what);
        }
        if let Some(deadline) = guarded.deadline()
            && guarded.tick_at.is_none_or(|at| deadline < at)
        {
            let at = deadline.max(now);
            guarded.tick_at = Some(at);
            self.push_background(at, Event::Guard(proxy, cluster));
        }
    }

    fn next_probe(
        &mut self,
        proxy: ProxyId,
        cluster: ClusterId,
    ) -> Option<(EndpointId, EndpointKey, u32, bool)> {
        self.proxies[proxy.index()].fleet.guarded_mut(cluster)?.next_probe()
    }

    fn next_note(&mut self, proxy: ProxyId, cluster: ClusterId) -> Option<(Option<EndpointId>, StateChange)> {
        self.proxies[proxy.index()].fleet.guarded_mut(cluster)?.next_note()
    }

    /// Asks an endpoint how it is.
    fn probe(
        &mut self,
        proxy: ProxyId,
        cluster: ClusterId,
        endpoint: EndpointId,
        key: EndpointKey,
        number: u32,
        is_connected: bool,
    ) {
        let now = self.now;
        let fleet = &self.proxies[proxy.index()].fleet;
        let Some(place) = fleet.place(cluster, endpoint) else { return };
        let guarded = fleet.cluster(cluster).and_then(|here| here.guarded.as_ref());
        let Some(probe) = guarded.and_then(|guarded| guarded.probe()) else { return };
        let Probed { after, result, stays } = self.upstreams.probe(now, place, probe, is_connected);
        // Where there is no answer, the guard has its timeout.
        if let Some(result) = result {
            let answer = ProbeAnswer { proxy, cluster, endpoint: key, number, result, stays };
            let answer = self.probes.insert(answer);
            self.push_background(now + after, Event::Probed(answer));
        }
    }

    /// Waits at a limit: until it is woken, or for a time.
    pub(super) fn wait_at(&mut self, passage: &mut Passage<T>, limit: LimitId, queued: Option<Queued>) {
        passage.is_at_limit = true;
        let limits = &self.proxies[passage.proxy.index()].fleet.limits;
        if queued.is_some_and(|queued| limits.listen(limit, queued, passage.key)) {
            self.push(self.now, passage, News::Turn);
        }
    }

    /// Asks whether its turn at a limit has come.
    pub(super) fn hear_turn(&mut self, passage: &mut Passage<T>) {
        passage.is_at_limit = false;
        let here = &mut self.proxies[passage.proxy.index()];
        let core = &mut here.workers[passage.worker].core;
        let view = here.fleet.seen_by(passage.worker);
        passage.journey.on_turn(self.now, here.snapshot, core, &view, &mut ());
    }

    /// Gives back what the request holds of limits with a name.
    #[inline]
    pub(super) fn leave_limits(&mut self, passage: &mut Passage<T>) {
        passage.is_at_limit = false;
        let here = &self.proxies[passage.proxy.index()];
        passage.journey.leave(self.now, here.snapshot, &here.fleet.seen_by(passage.worker));
    }

    pub(super) fn tick_limit(&mut self, proxy: ProxyId, limit: LimitId) {
        self.proxies[proxy.index()].fleet.limits.tick(self.now, limit);
        self.hear_shared(proxy);
    }

    /// What requests did to what they share goes to whom it concerns: a guard whose breaker they half opened, those
    /// whose turn it is.
    #[inline]
    pub(super) fn hear_shared(&mut self, proxy: ProxyId) {
        let fleet = &self.proxies[proxy.index()].fleet;
        if fleet.has_news() {
            self.hear_callers(proxy);
        }
        if self.proxies[proxy.index()].fleet.limits.has_news() {
            self.hear_limits(proxy);
        }
    }

    #[cold]
    fn hear_callers(&mut self, proxy: ProxyId) {
        let fleet = self.fleet_of(proxy);
        fleet.forget_news();
        let guarded: Vec<ClusterId> = fleet.guarded().map(|(id, _)| id).collect();
        for cluster in guarded {
            let guarded = self.proxies[proxy.index()].fleet.guarded_mut(cluster);
            if guarded.is_some_and(|guarded| guarded.hear_callers()) {
                self.look_after(proxy, cluster);
            }
        }
    }

    #[cold]
    fn hear_limits(&mut self, proxy: ProxyId) {
        let limits = &self.proxies[proxy.index()].fleet.limits;
        limits.forget_news();
        while let Some(key) = limits.next_woken() {
            self.queue.push(self.now, Event::Request(key, News::Turn));
        }
        let ticks: Vec<(LimitId, Instant)> = limits.next_ticks().collect();
        for (limit, at) in ticks {
            self.push_background(at.max(self.now), Event::Limit(proxy, limit));
        }
    }

    fn push_background(&mut self, at: Instant, event: Event<T>) {
        self.background += 1;
        self.queue.push(at, event);
    }
}
