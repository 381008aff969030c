//! A problem is of use where its place leads somewhere.

use naru_spec::Problem;

/// Every problem names the file, and a place inside the text.
pub fn check(file: &str, text: &str, problems: &[Problem]) {
    for problem in problems {
        assert_eq!(problem.file, file, "{problem:?}");
        assert!(!problem.message.is_empty() && !problem.code.is_empty(), "{problem:?}");
        let shown = problem.to_string();
        assert!(shown.lines().count() <= 4, "lines of somebody else's: {shown:?}");
        assert!(!shown.contains(|c: char| c.is_control() && c != '\n'), "it moves the cursor: {shown:?}");
        assert_eq!(problem.line == 0, problem.column == 0, "half a place: {problem:?}");
        // Only what is wrong with the whole has none: that problems were left out, an empty text.
        let is_of_all = problem.code == "more-problems" || text.trim().is_empty();
        assert!(problem.line > 0 || has_path(problem) || is_of_all, "no place: {problem:?}");
        let line = lines(text).nth((problem.line as usize).saturating_sub(1));
        // The end of a text is a place, and may be a line of its own.
        let length = line.map_or(0, |line| line.chars().count());
        assert!(line.is_some() || problem.line as usize <= lines(text).count() + 1, "{problem:?}");
        assert!(problem.column as usize <= length + 1, "beyond the line: {problem:?}");
    }
}

/// What is missing in a scenario stands nowhere, but its path or its message says what it is.
fn has_path(problem: &Problem) -> bool {
    let is_of_part = ["services", "transcript", "workers"].iter().any(|part| problem.path.starts_with(part));
    is_of_part || problem.message.starts_with("missing field")
}

/// As YAML breaks them.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let Some(end) = text.find(['\n', '\r']) else { return rest.take() };
        let taken = if text[end..].starts_with("\r\n") { 2 } else { 1 };
        rest = Some(&text[end + taken..]);
        Some(&text[..end])
    })
}
