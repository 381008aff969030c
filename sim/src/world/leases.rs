//! Gateways that share limits among themselves, carried out: who speaks when, and whose requests wait for it.
//!
//! | the proxy (`gate/leases.rs`)     | here                                       |
//! |----------------------------------|--------------------------------------------|
//! | its thread, and its beats        | [`LeaseNews`], which no request waits for   |
//! | `Circled::spend`                 | [`World::spend_leased`]                    |
//! | `Notify` of a limit's keys       | [`News::Leased`]                           |

use naru_base::Instant;
use naru_journey::gate::Answer;
use naru_journey::gate::Question;
use naru_journey::gate::quotas::{Asked, Told};
use naru_spec::WithoutStore;

use super::{Event, News, World};
use crate::arena::{Arena, Ticket};
use crate::leases::{Between, CircleHere, Message, Said, Wanted};
use crate::passage::{Asking, Passage};
use crate::scenario::GatewayState;
use crate::upstream::{ProxyId, Upstreams};

/// All circles of a world. The first proxies are their members.
#[derive(Debug)]
pub(super) struct LeasesHere {
    circles: Vec<CircleHere>,
    between: Between,
    gateways: Vec<Gateway>,
    news: Arena<LeaseNews>,
}

#[derive(Debug, Default)]
struct Gateway {
    is_down: bool,
    /// Counts its processes.
    life: u32,
}

#[derive(Debug)]
enum LeaseNews {
    /// A process of a member speaks to the others.
    Beat {
        circle: usize,
        member: usize,
        life: u32,
    },
    Message {
        circle: usize,
        message: Message,
    },
    /// A window of a gateway begins or ends.
    Gateway(usize),
}

impl<U: Upstreams, T: Copy> World<'_, U, T> {
    /// The first so many proxies are the gateways, and begin to speak to each other.
    pub fn start_leases(&mut self, gateways: u32, between: Between) {
        let circles = self.proxies.first().map_or_else(Vec::new, |first| CircleHere::all(first.snapshot));
        if circles.is_empty() {
            return;
        }
        let gateways = (0..gateways).map(|_| Gateway { is_down: true, life: 0 }).collect();
        let mut here = LeasesHere { circles, between, gateways, news: Arena::default() };
        let windows = here.between.windows.iter().filter(|window| window.state == GatewayState::Down);
        let ends = windows.flat_map(|window| [(window.from, window), (window.to, window)]);
        let mut moments: Vec<(Instant, usize)> = Vec::new();
        for (at, window) in ends.filter(|(at, _)| *at < Instant(u64::MAX)) {
            let meant = (0..here.gateways.len()).filter(|gateway| window.means(*gateway));
            moments.extend(meant.map(|gateway| (at, gateway)));
        }
        for (at, gateway) in moments {
            self.background += 1;
            let news = here.news.insert(LeaseNews::Gateway(gateway));
            self.queue.push(at, Event::Lease(news));
        }
        let count = here.gateways.len();
        self.leases = Some(Box::new(here));
        (0..count).for_each(|gateway| self.look_at_gateway(gateway));
    }

    /// The gateway that a request comes to: the next one where this one is down.
    pub fn instead_of(&self, gateway: u32, gateways: u32) -> u32 {
        let Some(leases) = &self.leases else { return gateway };
        let is_there = |at: &u32| leases.gateways.get(*at as usize).is_some_and(|gateway| !gateway.is_down);
        let mut next = (gateway..gateways).chain(0..gateway);
        next.find(is_there).unwrap_or(gateway)
    }

    /// Its process may have ended, or another have begun.
    fn look_at_gateway(&mut self, at: usize) {
        let now = self.now;
        let Some(leases) = &mut self.leases else { return };
        let LeasesHere { circles, between, gateways, news } = &mut **leases;
        let Some(gateway) = gateways.get_mut(at) else { return };
        let is_down = between.state(now, at) == GatewayState::Down;
        if std::mem::replace(&mut gateway.is_down, is_down) == is_down {
            return;
        }
        gateway.life += 1;
        let life = gateway.life;
        for (circle, here) in (0..).zip(circles.iter_mut()) {
            if is_down {
                let woken = here.end(at).woken;
                woken.into_iter().for_each(|key| {
                    self.queue.push(now, Event::Request(key, News::Leased));
                });
            } else if at < here.members() {
                here.begin(now, at);
                self.background += 1;
                let beat = news.insert(LeaseNews::Beat { circle, member: at, life });
                self.queue.push(now, Event::Lease(beat));
            }
        }
        let proxy = ProxyId(at as u32);
        if is_down {
            self.around.note(Some(proxy), "its process is gone".to_owned());
        } else if life > 1 {
            let here = &mut self.proxies[at];
            here.fleet.forget_counts(here.snapshot);
            self.forget_answers(proxy);
            self.around.note(Some(proxy), "another process begins".to_owned());
        }
    }

    pub(super) fn hear_leases(&mut self, news: Ticket) {
        let now = self.now;
        let Some(leases) = &mut self.leases else { return };
        let LeasesHere { circles, between, gateways, news: all } = &mut **leases;
        let (circle, wanted) = match all.remove(news) {
            None => return,
            Some(LeaseNews::Gateway(gateway)) => return self.look_at_gateway(gateway),
            Some(LeaseNews::Message { circle, message }) => {
                (circle, circles[circle].hear(now, &message, between))
            }
            Some(LeaseNews::Beat { circle, member, life }) => {
                let is_it = gateways.get(member).is_some_and(|gateway| gateway.life == life);
                let Some((wanted, every)) = circles
                    .get_mut(circle)
                    .filter(|_| is_it)
                    .and_then(|here| here.beat(now, member, between))
                else {
                    return;
                };
                self.background += 1;
                let beat = all.insert(LeaseNews::Beat { circle, member, life });
                self.queue.push(now + every, Event::Lease(beat));
                (circle, wanted)
            }
        };
        self.do_wanted(circle, wanted);
    }

    fn do_wanted(&mut self, circle: usize, wanted: Wanted) {
        let now = self.now;
        let Some(leases) = &mut self.leases else { return };
        for (at, message) in wanted.sent {
            self.background += 1;
            let news = leases.news.insert(LeaseNews::Message { circle, message });
            self.queue.push(at, Event::Lease(news));
        }
        for key in wanted.woken {
            self.queue.push(now, Event::Request(key, News::Leased));
        }
        for (member, what) in wanted.noted {
            self.around.note(Some(ProxyId(member as u32)), what);
        }
        if let Err(what) = leases.circles[circle].check_invariants(now) {
            self.broken = Some(what);
        }
    }

    /// Asks for what a request takes of limits that gateways share. `false` where the store is none of theirs.
    pub(super) fn spend_leased(
        &mut self,
        passage: &mut Passage<T>,
        asked: &Asked,
        until: Option<Instant>,
    ) -> bool {
        let now = self.now;
        let Some(leases) = &mut self.leases else { return false };
        let LeasesHere { circles, between, .. } = &mut **leases;
        let Some(circle) = circles.iter().position(|here| here.name == asked.store) else { return false };
        let is_first = until.is_none();
        // As the proxy has it: then it is told what is known.
        let until = until.unwrap_or(now + asked.within * 3 / 4);
        let may_count = asked.otherwise == WithoutStore::Local;
        let (said, wanted) = circles[circle].spend(
            now,
            passage.proxy.index(),
            passage.key,
            &asked.claims,
            may_count,
            now >= until,
            between,
        );
        let answer = match said {
            Said::Told(spent, rooms) => Some(Answer::Spent(Told { spent, rooms })),
            Said::Nobody => Some(Answer::Nobody),
            Said::Wait => None,
        };
        let is_answered = !matches!(answer, Some(Answer::Nobody));
        self.around.count_leased(&asked.store, is_first, is_answered, answer.is_none());
        passage.asking = None;
        match answer {
            Some(answer) => passage.journey.on_answer(now, answer),
            None => {
                if is_first {
                    self.queue.push(until, Event::Request(passage.key, News::Leased));
                }
                passage.asking = Some(Asking::Leased { until });
            }
        }
        self.do_wanted(circle, wanted);
        true
    }

    /// Something that it waits for may have come, or it has waited long enough.
    pub(super) fn look_at_leases(&mut self, passage: &mut Passage<T>) {
        let Some(Asking::Leased { until }) = passage.asking else { return };
        let Some(Question::Spend(asked)) = passage.journey.question().cloned() else { return };
        self.spend_leased(passage, &asked, Some(until));
    }
}
