//! What do documents mean, and what is wrong with them, of which most are as they were?
//!
//! Where nothing but a few VirtualServices is another, only what these reach is planned; the answer is that of the whole,
//! which is planned where a change can reach everything.

use naru_doc::Loaded;
use naru_journey::Snapshot;
use naru_plan::{Known, Planned, Surroundings, plan};
use naru_resource::Resources;
use naru_spec::Problem;

use crate::authority;
use crate::check_command::{Checked, compile, keys_of_tokens};

/// Documents that were checked.
#[derive(Debug, Default)]
pub struct Rechecked {
    /// Only of documents without errors: of others nobody knows what else is wrong with them.
    known: Option<(Known, Vec<Problem>)>,
}

impl Rechecked {
    /// All problems, in the order of files and lines. The surroundings are the same each time.
    pub fn check(&mut self, loaded: &Loaded, surroundings: &Surroundings) -> Vec<Problem> {
        let before = self.known.take();
        if loaded.problems.iter().any(Problem::is_error) {
            return self.whole(loaded, surroundings);
        }
        if let Some((mut known, problems)) = before
            && let Some(problems) = in_part(&mut known, &problems, loaded, surroundings)
        {
            let is_wrong = problems.iter().any(Problem::is_error);
            let told = with_documents(&problems, loaded);
            self.known = (!is_wrong).then_some((known, problems));
            return told;
        }
        self.whole(loaded, surroundings)
    }

    fn whole(&mut self, loaded: &Loaded, surroundings: &Surroundings) -> Vec<Problem> {
        let planned = plan(&loaded.resources, surroundings);
        let of_plan = planned.problems.clone();
        let Checked { compiled, problems, .. } = compile(planned, loaded, |_| {});
        self.known = compiled.is_some().then(|| (Known::new(loaded.resources.clone()), of_plan));
        problems
    }
}

/// What is found beyond the documents themselves.
fn in_part(
    known: &mut Known,
    before: &[Problem],
    loaded: &Loaded,
    surroundings: &Surroundings,
) -> Option<Vec<Problem>> {
    let mut change = known.follow(loaded.resources.clone())?;
    let part = change.plan(surroundings, &|_| true)?;
    let mut problems = part.problems(before)?;
    if !problems.iter().any(Problem::is_error)
        && let Err(found) = Snapshot::compile(part.after.clone())
    {
        problems.extend(naru_plan::locate(&part.after, &found, &loaded.resources.files));
    }
    Some(problems)
}

fn with_documents(problems: &[Problem], loaded: &Loaded) -> Vec<Problem> {
    let mut all = loaded.problems.clone();
    all.extend_from_slice(problems);
    all.extend(keys_of_tokens(loaded));
    all.extend(authority::problems(loaded));
    all.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
    all
}

/// A plan that follows the resources.
#[derive(Debug, Default)]
pub struct Replanned {
    /// Without errors: with them it would mean nothing.
    before: Option<(Known, Surroundings, Planned)>,
}

impl Replanned {
    /// The same as [`plan`].
    pub fn plan(&mut self, resources: &Resources, surroundings: &Surroundings) -> Planned {
        let planned = self.in_part(resources, surroundings);
        let planned = planned.unwrap_or_else(|| plan(resources, surroundings));
        let is_known = self.before.is_some();
        if !is_known && !planned.has_errors() {
            let known = Known::new(resources.clone());
            self.before = Some((known, surroundings.clone(), planned.clone()));
        }
        planned
    }

    fn in_part(&mut self, resources: &Resources, surroundings: &Surroundings) -> Option<Planned> {
        let (mut known, around, mut planned) = self.before.take()?;
        if around != *surroundings {
            return None;
        }
        let part = known.follow(resources.clone())?.plan(surroundings, &|_| true)?;
        if !part.apply(&mut planned) || planned.has_errors() {
            return None;
        }
        self.before = Some((known, around, planned.clone()));
        Some(planned)
    }
}
