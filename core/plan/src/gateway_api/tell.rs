//! Tells what is wrong with documents of the Gateway API.

use naru_resource::Place;
use naru_spec::{Path, code};

use crate::findings::Findings;

pub(super) struct Tell<'f, 'a>(pub &'f mut Findings<'a>);

impl Tell<'_, '_> {
    pub fn error(&mut self, place: Place, path: &Path<'_>, message: &str, hint: &str) {
        self.0.error(code::INVALID_VALUE, place, path, message, hint);
    }
}
