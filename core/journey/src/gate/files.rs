//! Files in an upstream's place: the last check of a gate, which answers.
//!
//! It says which names a path may mean ([`FileAsked`]), is told what is there ([`FileSaid`]), and answers with the head
//! that it then has. What of the file stands in the body is [`Given`](naru_content::given::Given), for whoever reads
//! files.

use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use http::header::{self, HeaderName, HeaderValue};
use naru_base::Reason;
use naru_content::Accepted;
use naru_content::files::{Wanted, wanted, with_slash};
use naru_content::given::{Found, give};
use naru_spec::defaults::FILES_TIMEOUT;
use naru_spec::{ContentCoding, StaticFiles};

use super::{Answer, Head, Memory, Question, Refusal, Step};
use crate::View;

/// What is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileAsked {
    pub files: Arc<StaticFiles>,
    pub wanted: Wanted,
    /// What stands beside a file in one of these is given in its place: the first that is there.
    pub codings: Vec<ContentCoding>,
}

/// What is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileSaid {
    Found(Found),
    /// A directory, whose path lacks its slash.
    Directory,
    Missing,
    /// Nobody knows: the disk does not answer, or the directory of all is not there.
    Unreadable,
}

pub(super) fn decide(
    files: &Arc<StaticFiles>,
    head: &Head<'_>,
    draw: u64,
    answer: Option<Answer>,
    memory: &mut Memory,
    view: &impl View,
) -> Step {
    let said = match answer {
        None => return ask(files, head),
        Some(Answer::File(said)) => said,
        Some(_) => FileSaid::Unreadable,
    };
    match said {
        FileSaid::Found(found) => {
            let given = give(files, &found, &head.line.method, head.headers, view.wall(), draw);
            let reason = if found.status == 404 { Reason::FileNotFound } else { Reason::StaticFile };
            let refusal = answered(reason, given.status, given.headers.clone());
            memory.given = Some(Box::new(given));
            refusal
        }
        FileSaid::Directory => {
            let path = &head.line.path;
            let location = HeaderValue::try_from(with_slash(path.path(), path.query())).ok();
            let headers = location.map(|location| (header::LOCATION, location));
            answered(Reason::StaticFile, 301, headers.into_iter().collect())
        }
        FileSaid::Missing if files.passes_on => Step::Pass,
        FileSaid::Missing => Step::Refuse(Box::new(Refusal::of(Reason::FileNotFound))),
        FileSaid::Unreadable => Step::Refuse(Box::new(Refusal::of(Reason::FileUnreadable))),
    }
}

fn ask(files: &Arc<StaticFiles>, head: &Head<'_>) -> Step {
    let is_read = matches!(head.line.method, Method::GET | Method::HEAD);
    match is_read {
        true => {
            let wanted = wanted(files, head.line.path.path());
            if wanted.candidates.is_empty() {
                return match files.passes_on {
                    true => Step::Pass,
                    false => Step::Refuse(Box::new(Refusal::of(Reason::FileNotFound))),
                };
            }
            let codings = codings(files, head);
            let asked = FileAsked { files: Arc::clone(files), wanted, codings };
            Step::Ask(Question::File(Box::new(asked)), FILES_TIMEOUT)
        }
        false if files.passes_on => Step::Pass,
        false => {
            let mut refusal = Refusal::of(Reason::FileMethod);
            refusal.headers = vec![(header::ALLOW, HeaderValue::from_static("GET, HEAD"))];
            Step::Refuse(Box::new(refusal))
        }
    }
}

/// Those that the client accepts, the one that it wants most first.
fn codings(files: &StaticFiles, head: &Head<'_>) -> Vec<ContentCoding> {
    let mut there: Vec<(ContentCoding, bool)> =
        files.precompressed.iter().rev().map(|coding| (*coding, true)).collect();
    let mut chosen = Vec::new();
    if there.is_empty() {
        return chosen;
    }
    // Among those that are wanted as much, the order is that of the settings.
    let accepted = Accepted::of(head.headers);
    while let Some(coding) = accepted.choose(&there) {
        chosen.push(coding);
        there.retain(|(other, _)| *other != coding);
    }
    chosen
}

fn answered(reason: Reason, status: u16, headers: Vec<(HeaderName, HeaderValue)>) -> Step {
    let body = Bytes::new();
    Step::Refuse(Box::new(Refusal { status, headers, body, ..Refusal::of(reason) }))
}
