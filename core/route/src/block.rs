//! Does one block hold for a request? For those who ask about requests beside their rules.

use naru_spec::{Invalid, Match, PathMatch};
use regex::bytes::Regex;

use crate::Subject;
use crate::condition::{Condition, compile};
use crate::re2::Expressions;

/// A block, compiled: every test of it has to hold.
#[derive(Clone, Debug)]
pub struct Block {
    path: PathTest,
    ignore_path_case: bool,
    conditions: Box<[Condition]>,
}

#[derive(Clone, Debug)]
enum PathTest {
    Exact(Box<[u8]>),
    Prefix(Box<[u8]>),
    SegmentPrefix(Box<[u8]>),
    Regex(Box<Regex>),
    /// Of tunnels: no request that asks for a path.
    Never,
}

impl Block {
    /// # Errors
    /// Every pattern that is no expression.
    pub fn compile(spec: &Match) -> Result<Block, Vec<Invalid>> {
        let mut expressions = Expressions::default();
        let mut problems = Vec::new();
        let bytes = |text: &str| -> Box<[u8]> { text.as_bytes().into() };
        let path = match &spec.path {
            PathMatch::Exact(text) => PathTest::Exact(bytes(text)),
            PathMatch::Prefix(text) => PathTest::Prefix(bytes(text)),
            PathMatch::SegmentPrefix(text) => PathTest::SegmentPrefix(bytes(text)),
            PathMatch::Regex(pattern) => match expressions.whole(pattern) {
                Ok(regex) => PathTest::Regex(Box::new(regex)),
                Err(invalid) => {
                    problems.push(invalid);
                    PathTest::Never
                }
            },
            PathMatch::Connect => PathTest::Never,
        };
        let conditions = compile(spec, &mut expressions, &mut problems).into_boxed_slice();
        let block = Block { path, ignore_path_case: spec.ignore_path_case, conditions };
        if problems.is_empty() { Ok(block) } else { Err(problems) }
    }

    pub fn holds(&self, subject: &Subject<'_>) -> bool {
        self.path_holds(subject.path.as_bytes())
            && self.conditions.iter().all(|condition| condition.holds(subject))
    }

    fn path_holds(&self, path: &[u8]) -> bool {
        let equal = |part: Option<&[u8]>, expected: &[u8]| {
            part.is_some_and(|part| match self.ignore_path_case {
                true => part.eq_ignore_ascii_case(expected),
                false => part == expected,
            })
        };
        match &self.path {
            PathTest::Exact(expected) => equal(Some(path), expected),
            PathTest::Prefix(expected) => equal(path.get(..expected.len()), expected),
            PathTest::SegmentPrefix(expected) => {
                equal(path.get(..expected.len()), expected)
                    && matches!(path.get(expected.len()), None | Some(b'/'))
            }
            PathTest::Regex(regex) => regex.is_match(path),
            PathTest::Never => false,
        }
    }
}
