//! `naru check`: what is wrong with documents.

use naru_doc::Loaded;
use naru_journey::Snapshot;
use naru_plan::{Planned, Status, Surroundings, plan};
use naru_sources::Texts;
use naru_spec::Problem;

use crate::cli::{CheckArgs, Failure, Output};
use crate::problems;
use crate::say::say;

pub fn run(args: &CheckArgs) -> Result<(), Failure> {
    let texts = Texts::read(&args.paths)?;
    if texts.files.is_empty() {
        return Err(anyhow::anyhow!("there is no .yaml, .yml or .json file there").into());
    }
    let Checked { problems: found, statuses, .. } = check(&texts, &Surroundings::default());
    if args.status {
        return tell_statuses(&statuses, args.output);
    }
    let of_file = |file: &str| texts.text(file);
    problems::print(&found, &of_file, args.output)?;
    if args.output == Output::Text {
        let count = problems::count(&found);
        let files = match texts.files.len() {
            1 => "1 file".to_owned(),
            many => format!("{many} files"),
        };
        say(&format!("{files}: {}\n", if count.is_empty() { "fine" } else { &count }))?;
    }
    if found.iter().any(Problem::is_error) { Err(Failure::Told) } else { Ok(()) }
}

/// What a controller of the Gateway API would write into the documents.
fn tell_statuses(statuses: &[Status], output: Output) -> Result<(), Failure> {
    match output {
        Output::Text => say(&crate::statuses::to_text(statuses))?,
        Output::Json => say(&format!("{}\n", crate::statuses::to_json(statuses)))?,
    }
    Ok(())
}

/// Documents, and what was made of them.
pub struct Checked {
    /// Nothing where a problem is an error.
    pub compiled: Option<(naru_spec::Config, Snapshot)>,
    pub problems: Vec<Problem>,
    /// Of documents of the Gateway API.
    pub statuses: Vec<Status>,
}

/// Everything that can be known of documents without running them.
pub fn check(texts: &Texts, surroundings: &Surroundings) -> Checked {
    check_loaded(&texts.load(), surroundings)
}

/// As [`check`], of documents that were read before.
pub fn check_loaded(loaded: &Loaded, surroundings: &Surroundings) -> Checked {
    let Planned { config, problems: of_plan } = plan(&loaded.resources, surroundings);
    let mut problems = loaded.problems.clone();
    problems.extend(of_plan);
    let mut compiled = None;
    // A configuration that lacks what could not be read may have faults that nobody made.
    if !problems.iter().any(Problem::is_error) {
        match Snapshot::compile(config.clone()) {
            Ok(snapshot) => compiled = Some((config, snapshot)),
            Err(found) => problems.extend(naru_plan::locate(&config, &found, &loaded.resources.files)),
        }
    }
    problems.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
    Checked { compiled, problems, statuses: naru_plan::statuses(&loaded.resources) }
}
