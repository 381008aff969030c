//! Configurations with holes: `{{name}}` is replaced, and a comment line opens a block that ends with `# end`.
//!
//! `# for each route` and `# for each cluster` repeat their block, `# when CONDITION` keeps or leaves it out. A proxy's
//! small and its large configuration are so one file.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};

use super::peer::Shape;

pub type Values = BTreeMap<&'static str, String>;

pub fn render(template: &str, values: &Values, shape: &Shape) -> anyhow::Result<String> {
    let mut out = String::new();
    let mut lines = template.lines();
    while let Some(line) = lines.next() {
        let Some(block) = Block::opened_by(line) else {
            out.push_str(&fill(line, values)?);
            continue;
        };
        let body: Vec<_> = lines.by_ref().take_while(|line| line.trim() != "# end").collect();
        for more in block.repetitions(shape) {
            let values: Values = values.clone().into_iter().chain(more).collect();
            for line in &body {
                out.push_str(&fill(line, &values)?);
            }
        }
    }
    Ok(out)
}

enum Block<'a> {
    EachRoute,
    EachCluster,
    When(&'a str),
}

impl Block<'_> {
    fn opened_by(line: &str) -> Option<Block<'_>> {
        match line.trim().strip_prefix("# ")? {
            "for each route" => Some(Block::EachRoute),
            "for each cluster" => Some(Block::EachCluster),
            other => other.strip_prefix("when ").map(Block::When),
        }
    }

    /// What is known inside of each repetition beyond what is known outside.
    fn repetitions(&self, shape: &Shape) -> Vec<Values> {
        let cluster = |number: usize| ("cluster", format!("{number:03}"));
        match *self {
            Block::EachCluster => (0..shape.clusters).map(|number| Values::from([cluster(number)])).collect(),
            Block::EachRoute => (0..shape.routes)
                .map(|number| {
                    Values::from([("route", route_name(number)), cluster(number % shape.clusters.max(1))])
                })
                .collect(),
            Block::When(condition) => {
                let holds = match condition {
                    "routed" => shape.routes > 0,
                    "upstream h1" => !shape.upstream_h2,
                    "upstream h2" => shape.upstream_h2,
                    "policies" => shape.policies,
                    "no policies" => !shape.policies,
                    "cached" => shape.cached,
                    _ => false,
                };
                if holds { vec![Values::new()] } else { Vec::new() }
            }
        }
    }
}

pub fn route_name(number: usize) -> String {
    format!("{number:05}")
}

fn fill(line: &str, values: &Values) -> anyhow::Result<String> {
    let mut out = String::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) = after.split_once("}}").context("a hole without an end")?;
        let value = values.get(name);
        ensure!(value.is_some(), "nothing fills the hole {name:?}");
        out.extend([before, value.map_or("", String::as_str)]);
        rest = after;
    }
    out.extend([rest, "\n"]);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(template: &str, expected: &str) {
        let shape = Shape { routes: 3, clusters: 2, ..Shape::SMALL };
        let values = Values::from([("port", "80".into())]);
        assert_eq!(render(template, &values, &shape).ok().as_deref(), Some(expected));
    }

    #[test]
    fn fills_holes() {
        check("listen {{port}} and {{port}};", "listen 80 and 80;\n");
    }

    #[test]
    fn repeats_a_block_for_each_route_with_its_cluster() {
        check(
            "a\n  # for each route\n  {{route}} {{cluster}}\n  # end\nb",
            "a\n  00000 000\n  00001 001\n  00002 000\nb\n",
        );
    }

    #[test]
    fn keeps_a_block_only_when_its_condition_holds() {
        check("# when upstream h2\ntwo\n# end\n# when upstream h1\none\n# end", "one\n");
    }

    #[test]
    fn refuses_a_hole_that_nothing_fills() {
        let shape = Shape::SMALL;
        assert!(render("{{what}}", &Values::new(), &shape).is_err());
    }
}
