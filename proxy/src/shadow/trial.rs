//! A request whose answer is compared with those of its copies.
//!
//! Each answer is heard as it passes: its head, and its body as long as it is small enough ([`Hearing`]). Once all are
//! there that are waited for, they are compared. An answer that never comes to its end is none.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;
use naru_recover::mirror::compare::Answer;
use naru_spec::Comparison;

use crate::mirrors::{Budget, MirrorHere, Paced};

/// The answers to one request.
#[derive(Debug)]
pub struct Trial {
    heard: RefCell<Answers>,
    /// The largest body that any of the comparisons looks at.
    body_bytes_max: usize,
    budget: Rc<Budget>,
}

#[derive(Debug)]
struct Answers {
    /// What the client gets.
    primary: Heard,
    /// What the same cluster says the second time.
    twin: Heard,
    candidates: Vec<Candidate>,
}

#[derive(Debug)]
struct Candidate {
    mirror: Rc<MirrorHere>,
    settings: Comparison,
    heard: Heard,
    is_judged: bool,
}

/// Whose answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Primary,
    Twin,
    Candidate(usize),
}

#[derive(Debug)]
enum Heard {
    Awaited,
    /// Nobody is asked, or nobody answered.
    Absent,
    Here(Box<Whole>),
}

/// A whole answer.
#[derive(Debug)]
struct Whole {
    status: u16,
    /// Trailers are among them.
    headers: HeaderMap,
    body: Kept,
    took: Duration,
}

/// The body of an answer, as long as there is room for it.
#[derive(Debug)]
struct Kept {
    /// `None` where it is too large.
    frames: Option<Vec<Bytes>>,
    bytes: usize,
    budget: Rc<Budget>,
}

/// One answer while it passes.
#[derive(Debug)]
pub struct Hearing {
    trial: Rc<Trial>,
    role: Role,
    answer: Option<Box<Whole>>,
    is_told: bool,
}

impl Trial {
    /// With the mirrors whose answers are compared.
    pub fn new(
        candidates: Vec<(Rc<MirrorHere>, Comparison)>,
        has_twin: bool,
        budget: &Rc<Budget>,
    ) -> Rc<Trial> {
        let body_bytes_max =
            candidates.iter().map(|(_, settings)| settings.body_bytes_max).max().unwrap_or(0);
        let candidates = candidates.into_iter().map(|(mirror, settings)| Candidate {
            mirror,
            settings,
            heard: Heard::Awaited,
            is_judged: false,
        });
        let answers = Answers {
            primary: Heard::Awaited,
            twin: if has_twin { Heard::Awaited } else { Heard::Absent },
            candidates: candidates.collect(),
        };
        Rc::new(Trial { heard: RefCell::new(answers), body_bytes_max, budget: Rc::clone(budget) })
    }

    pub fn hear(self: &Rc<Self>, role: Role) -> Hearing {
        Hearing { trial: Rc::clone(self), role, answer: None, is_told: false }
    }

    fn tell(&self, role: Role, answer: Option<Box<Whole>>) {
        let mut answers = self.heard.borrow_mut();
        let place = match role {
            Role::Primary => Some(&mut answers.primary),
            Role::Twin => Some(&mut answers.twin),
            Role::Candidate(at) => answers.candidates.get_mut(at).map(|candidate| &mut candidate.heard),
        };
        if let Some(place) = place {
            *place = answer.map_or(Heard::Absent, Heard::Here);
        }
        answers.judge();
    }
}

impl Answers {
    /// Compares what can be compared now, each once.
    fn judge(&mut self) {
        let Answers { primary, twin, candidates } = self;
        if matches!(primary, Heard::Awaited) || matches!(twin, Heard::Awaited) {
            return;
        }
        for candidate in candidates.iter_mut().filter(|candidate| !candidate.is_judged) {
            let (primary, candidate_heard) = match (&*primary, &candidate.heard) {
                (_, Heard::Awaited) => continue,
                (Heard::Here(primary), Heard::Here(candidate)) => (primary, candidate),
                _ => {
                    candidate.is_judged = true;
                    candidate.mirror.on_unpaired();
                    continue;
                }
            };
            let settings = &candidate.settings;
            let bodies = [primary.bytes(settings), candidate_heard.bytes(settings)];
            let twin = match &*twin {
                Heard::Here(twin) => Some((twin, twin.bytes(settings))),
                Heard::Absent | Heard::Awaited => None,
            };
            candidate.mirror.compare(
                &Paced { answer: primary.answer(bodies[0].as_deref()), took: primary.took },
                twin.as_ref().map(|(twin, body)| twin.answer(body.as_deref())).as_ref(),
                &Paced { answer: candidate_heard.answer(bodies[1].as_deref()), took: candidate_heard.took },
                settings,
            );
            candidate.is_judged = true;
            candidate.heard = Heard::Absent;
        }
    }
}

impl Whole {
    fn bytes(&self, settings: &Comparison) -> Option<Vec<u8>> {
        let frames = self.body.frames.as_ref().filter(|_| self.body.bytes <= settings.body_bytes_max)?;
        Some(frames.concat())
    }

    fn answer<'a>(&'a self, body: Option<&'a [u8]>) -> Answer<'a> {
        Answer { status: self.status, headers: &self.headers, body }
    }
}

impl Kept {
    fn keep(&mut self, data: &Bytes, bytes_max: usize) {
        let Some(frames) = &mut self.frames else { return };
        if self.bytes + data.len() <= bytes_max && self.budget.take(data.len()) {
            self.bytes += data.len();
            // A copy: what it is a part of may be much larger.
            frames.push(Bytes::copy_from_slice(data));
        } else {
            self.frames = None;
            self.budget.give_back(std::mem::take(&mut self.bytes));
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes);
    }
}

impl Hearing {
    /// The head of the answer, which may be all of it.
    pub fn hear_head(&mut self, status: u16, headers: &HeaderMap, took: Duration, has_ended: bool) {
        let budget = Rc::clone(&self.trial.budget);
        let body = Kept { frames: Some(Vec::new()), bytes: 0, budget };
        self.answer = Some(Box::new(Whole { status, headers: headers.clone(), body, took }));
        if has_ended {
            self.finish();
        }
    }

    /// What was read of its body; `is_last` where it ends with that.
    pub fn hear<E>(&mut self, frame: Option<&Result<Frame<Bytes>, E>>, is_last: bool) {
        let Some(answer) = &mut self.answer else { return };
        match frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    answer.body.keep(data, self.trial.body_bytes_max);
                } else if let Some(trailers) = frame.trailers_ref() {
                    answer.headers.extend(trailers.clone());
                }
                if is_last || frame.is_trailers() {
                    self.finish();
                }
            }
            Some(Err(_)) => self.answer = None,
            None => self.finish(),
        }
    }

    /// No more of it is read: it is compared without its body.
    pub fn cut_short(&mut self) {
        if let Some(answer) = &mut self.answer {
            answer.body.frames = None;
            self.finish();
        }
    }

    fn finish(&mut self) {
        if !std::mem::replace(&mut self.is_told, true) {
            self.trial.tell(self.role, self.answer.take());
        }
    }
}

impl Drop for Hearing {
    fn drop(&mut self) {
        self.answer = None;
        self.finish();
    }
}

#[cfg(test)]
mod tests {
    use naru_spec::defaults::COPIES_BYTES_MAX;

    use super::*;
    use crate::mirrors::{MirrorName, MirrorReport, Mirrors};

    struct Stand {
        mirrors: Mirrors,
        here: Rc<MirrorHere>,
    }

    impl Stand {
        fn new() -> Stand {
            let mirrors = Mirrors::default();
            let name = MirrorName { virtual_host: "v".into(), route: "r".into(), cluster: "m".into() };
            Stand { here: mirrors.named(name), mirrors }
        }

        fn trial(&self, has_twin: bool) -> Rc<Trial> {
            let settings = Comparison { body_bytes_max: 20, ..Comparison::default() };
            Trial::new(vec![(Rc::clone(&self.here), settings)], has_twin, &self.mirrors.budget)
        }

        fn report(&self) -> MirrorReport {
            self.mirrors.report().remove(0)
        }

        fn holds_nothing(&self) {
            assert_eq!(self.mirrors.bytes_held(), 0);
            assert!(self.mirrors.budget.take(COPIES_BYTES_MAX));
        }
    }

    fn say(trial: &Rc<Trial>, role: Role, pieces: &[&'static str]) {
        let mut hearing = trial.hear(role);
        hearing.hear_head(200, &HeaderMap::new(), Duration::from_millis(1), pieces.is_empty());
        for piece in pieces {
            hearing.hear::<()>(Some(&Ok(Frame::data(Bytes::from_static(piece.as_bytes())))), false);
        }
        hearing.hear::<()>(None, true);
    }

    #[test]
    fn answers_are_compared_once_all_are_there_in_whatever_order() {
        const PRIMARY: (Role, &[&str]) = (Role::Primary, &[r#"{"a":1,"#, r#""at":1}"#]);
        const TWIN: (Role, &[&str]) = (Role::Twin, &[r#"{"a":1,"at":2}"#]);
        const CANDIDATE: (Role, &[&str]) = (Role::Candidate(0), &[r#"{"a":2,"at":3}"#]);
        for order in [
            [PRIMARY, TWIN, CANDIDATE],
            [CANDIDATE, TWIN, PRIMARY],
            [TWIN, CANDIDATE, PRIMARY],
            [PRIMARY, CANDIDATE, TWIN],
        ] {
            let stand = Stand::new();
            let trial = stand.trial(true);
            for (at, (role, pieces)) in order.into_iter().enumerate() {
                assert_eq!(stand.report().comparison.report.compared, 0, "{at} of {order:?}");
                say(&trial, role, pieces);
            }
            let found = stand.report().comparison;
            assert_eq!((found.report.compared, found.report.different, found.learned), (1, 1, 1));
            assert_eq!(found.noise.places().collect::<Vec<_>>(), ["body.at"]);
            assert_eq!(found.report.places.keys().collect::<Vec<_>>(), ["body.a"]);
            assert_eq!((found.primary.count(), found.candidate.count()), (1, 1));
            drop(trial);
            stand.holds_nothing();
        }
    }

    #[test]
    fn an_answer_that_does_not_come_to_its_end_is_none() {
        for broken in [Role::Primary, Role::Candidate(0)] {
            let stand = Stand::new();
            let trial = stand.trial(false);
            let whole = if broken == Role::Primary { Role::Candidate(0) } else { Role::Primary };
            say(&trial, whole, &["x"]);
            let mut hearing = trial.hear(broken);
            hearing.hear_head(200, &HeaderMap::new(), Duration::ZERO, false);
            hearing.hear(Some(&Err(())), false);
            drop(hearing);
            let found = stand.report().comparison;
            assert_eq!((found.report.compared, found.unpaired), (0, 1), "{broken:?}");
            drop(trial);
            stand.holds_nothing();
        }
        let stand = Stand::new();
        let trial = stand.trial(true);
        say(&trial, Role::Primary, &["x"]);
        say(&trial, Role::Candidate(0), &["x"]);
        drop(trial.hear(Role::Twin));
        let found = stand.report().comparison;
        assert_eq!((found.report.compared, found.report.different, found.learned), (1, 0, 0));
    }

    #[test]
    fn a_body_that_is_too_large_is_left_out_and_trailers_are_headers() {
        let stand = Stand::new();
        let trial = stand.trial(false);
        say(&trial, Role::Primary, &["0123456789", "0123456789", "x"]);
        let mut hearing = trial.hear(Role::Candidate(0));
        hearing.hear_head(200, &HeaderMap::new(), Duration::from_millis(2), false);
        let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), "5".parse().unwrap())]);
        hearing.hear::<()>(Some(&Ok(Frame::trailers(trailers))), true);
        let found = stand.report().comparison;
        assert_eq!((found.report.compared, found.report.bodies_left_out, found.slower), (1, 1, 1));
        assert_eq!(found.report.places.keys().collect::<Vec<_>>(), ["header.grpc-status"]);
        drop((trial, hearing));
        stand.holds_nothing();
    }
}
