//! The way to a value inside a message: `static_resources.listeners[0].name`.
//!
//! Built on the stack while a message is walked, printed only where something is found. Names are
//! those of the proto; a document may spell them in lowerCamelCase.

use std::fmt;

#[derive(Clone, Copy, Debug)]
pub struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    Root,
    /// One field, or several with dots between.
    Field(&'a str),
    Index(usize),
    /// Of a map.
    Key(&'a str),
}

impl<'a> Path<'a> {
    pub const ROOT: Path<'static> = Path { parent: None, step: Step::Root };

    pub fn field(&'a self, name: &'a str) -> Path<'a> {
        Path { parent: Some(self), step: Step::Field(name) }
    }

    pub fn at(&'a self, index: usize) -> Path<'a> {
        Path { parent: Some(self), step: Step::Index(index) }
    }

    pub fn key(&'a self, key: &'a str) -> Path<'a> {
        Path { parent: Some(self), step: Step::Key(key) }
    }

    /// From the root, one field a step.
    pub fn steps(&self) -> Vec<Step<'a>> {
        let mut steps = Vec::new();
        let mut at = Some(self);
        while let Some(path) = at {
            match path.step {
                Step::Root => {}
                Step::Field(names) => steps.extend(names.rsplit('.').map(Step::Field)),
                step => steps.push(step),
            }
            at = path.parent;
        }
        steps.reverse();
        steps
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, step) in self.steps().into_iter().enumerate() {
            match step {
                Step::Root => {}
                Step::Field(name) if at == 0 => f.write_str(name)?,
                Step::Field(name) => write!(f, ".{name}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Key(key) => write!(f, "[\"{key}\"]")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_print_as_they_are_read() {
        let clusters = Path::ROOT.field("static_resources.clusters");
        let options = clusters.at(2);
        let options = options.field("typed_extension_protocol_options");
        assert_eq!(
            options.key("envoy.x").field("a").to_string(),
            "static_resources.clusters[2].typed_extension_protocol_options[\"envoy.x\"].a"
        );
        assert_eq!(Path::ROOT.to_string(), "");
    }
}
