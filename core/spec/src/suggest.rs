//! What the author of an unknown name may have meant.

/// `did you mean 'x'?`, or nothing where no name is near.
pub fn did_you_mean<'a>(said: &str, names: impl Iterator<Item = &'a str>) -> String {
    let said = snake_case(said);
    // A third of a short name, a few letters of a long one.
    let far = (said.chars().count() / 3).clamp(1, 4);
    let nearest = names
        .map(|name| (distance(&said, &name.to_ascii_lowercase()), name))
        .filter(|(distance, _)| *distance <= far)
        .min();
    match nearest {
        Some((_, name)) => format!("did you mean '{name}'?"),
        None => String::new(),
    }
}

fn snake_case(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 4);
    for c in name.chars() {
        if c.is_ascii_uppercase() && !out.is_empty() && !out.ends_with('_') {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

/// Edits, insertions, removals and swaps of neighbours (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    /// Nobody misspells a longer name, and the table stays small.
    const CHARS_MAX: usize = 160;
    let a: Vec<char> = a.chars().take(CHARS_MAX).collect();
    let b: Vec<char> = b.chars().take(CHARS_MAX).collect();
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let changed = usize::from(a[i - 1] != b[j - 1]);
            row[j] = (last[j] + 1).min(row[j - 1] + 1).min(last[j - 1] + changed);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_suggested_and_far_ones_are_not() {
        fn check(said: &str, expected: &str) {
            let names = ["connect_timeout", "lb_policy", "name", "type"];
            assert_eq!(did_you_mean(said, names.into_iter()), expected, "{said}");
        }
        check("connect_timout", "did you mean 'connect_timeout'?");
        check("connectTimeOut", "did you mean 'connect_timeout'?");
        check("lb_polciy", "did you mean 'lb_policy'?");
        check("naem", "did you mean 'name'?");
        check("circuit_breaker", "");
        check("x", "");
    }
}
