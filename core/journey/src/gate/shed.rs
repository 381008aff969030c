//! Requests that are given up first while more comes than there is room for.
//!
//! Which they are is said by the levels of a `Surge`; at which level the process is, is asked of the [`View`]. In the
//! ordinary one that is all that is asked.

use http::HeaderValue;
use http::header::RETRY_AFTER;
use naru_base::chance::mix;
use naru_base::{Fraction, Reason};
use naru_route::Block;
use naru_spec::{Invalid, Shed};

use super::{CheckCount, Head, Refusal, Step};
use crate::View;

#[derive(Debug)]
pub struct CompiledShed {
    rules: Box<[Rule]>,
}

#[derive(Debug)]
struct Rule {
    from_level: u32,
    blocks: Box<[Block]>,
    share: Fraction,
    retry_after: HeaderValue,
}

impl CompiledShed {
    pub(crate) fn new(settings: &Shed) -> Result<CompiledShed, Vec<Invalid>> {
        let mut problems = Vec::new();
        let rules = settings.rules.iter().map(|rule| {
            let blocks = rule
                .blocks
                .iter()
                .filter_map(|block| Block::compile(block).map_err(|found| problems.extend(found)).ok());
            Rule {
                from_level: rule.from_level,
                blocks: blocks.collect(),
                share: rule.share,
                // Who comes at once comes too early.
                retry_after: HeaderValue::from(rule.retry_after.as_secs().max(1)),
            }
        });
        let rules = rules.collect();
        if problems.is_empty() { Ok(CompiledShed { rules }) } else { Err(problems) }
    }

    pub(crate) fn decide(&self, head: &Head<'_>, draw: u64, view: &impl View) -> Step {
        let level = view.surge_level();
        if level == 0 {
            return Step::Pass;
        }
        let subject = head.subject(draw);
        let acting = self.rules.iter().filter(|rule| rule.from_level <= level);
        for rule in acting {
            let is_meant = rule.blocks.iter().any(|block| block.holds(&subject));
            // One draw for all rules: a share of two is no more than the larger of both.
            if is_meant && rule.share.takes(mix(draw ^ 0x7375_7267_6521)) {
                view.count_check(CheckCount::Shed);
                let mut refusal = Refusal::of(Reason::Shed);
                refusal.headers.push((RETRY_AFTER, rule.retry_after.clone()));
                return Step::Refuse(Box::new(refusal));
            }
        }
        Step::Pass
    }
}
