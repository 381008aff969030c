//! What did a line of a log say?
//!
//! The way back from a line to what its format's operators stood for. Between two texts of the format stands a value;
//! two operators side by side cannot be told apart, but for an authority before a path, which begins with a slash.

use crate::{Format, Invalid, Operator, Piece};

impl Format {
    /// Whether lines of this format can be read.
    ///
    /// # Errors
    /// Two operators stand side by side.
    pub fn check_readable(&self) -> Result<(), Invalid> {
        for pair in self.pieces().windows(2) {
            if let [Piece::Operator { operator: first, .. }, Piece::Operator { operator: second, .. }] = pair
                && !(is_authority(first) && is_path(second))
            {
                return Err(Invalid::new(format!(
                    "nobody can tell where %{first}% ends and %{second}% begins"
                ))
                .hint("put something between them"));
            }
        }
        Ok(())
    }

    /// What each operator stands for in a line; `None` where the line is none of this format.
    pub fn read<'f, 'l>(&'f self, line: &'l str) -> Option<Vec<(&'f Operator, &'l str)>> {
        let mut rest = line;
        let mut values = Vec::new();
        let mut pieces = self.pieces().iter().peekable();
        while let Some(piece) = pieces.next() {
            match piece {
                Piece::Text(text) => {
                    // The line may be without its end.
                    let is_last = pieces.peek().is_none();
                    let text = if is_last { text.trim_end_matches('\n') } else { text };
                    rest = rest.strip_prefix(text)?;
                }
                Piece::Operator { operator, .. } => {
                    let end = match pieces.peek() {
                        None => rest.trim_end_matches('\n').len(),
                        Some(Piece::Text(text)) => {
                            let text = text.trim_end_matches('\n');
                            if text.is_empty() { rest.trim_end_matches('\n').len() } else { rest.find(text)? }
                        }
                        Some(Piece::Operator { operator: next, .. })
                            if is_authority(operator) && is_path(next) =>
                        {
                            rest.find(['/', '*'])?
                        }
                        Some(Piece::Operator { .. }) => return None,
                    };
                    let (value, after) = rest.split_at_checked(end)?;
                    values.push((operator, value));
                    rest = after;
                }
            }
        }
        rest.trim_end_matches(['\n', '\r']).is_empty().then_some(values)
    }
}

fn is_authority(operator: &Operator) -> bool {
    matches!(operator, Operator::RequestHeader { name, .. } if name == ":authority" || name == "host")
}

fn is_path(operator: &Operator) -> bool {
    let Operator::RequestHeader { name, alternative } = operator else { return false };
    name == ":path" || alternative.as_deref() == Some(":path")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(format: &str, line: &str) -> Option<Vec<String>> {
        let format = Format::parse(format).expect("a format");
        let values = format.read(line)?;
        Some(values.into_iter().map(|(_, value)| value.to_owned()).collect())
    }

    #[test]
    fn a_line_is_read_back_by_its_format() {
        let path = "%REQ(:AUTHORITY)%%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% x";
        for (format, line, expected) in [
            ("%REQ(:METHOD)% %REQ(:PATH)%\n", "GET /a\n", Some(&["GET", "/a"][..])),
            ("%REQ(:METHOD)% %REQ(:PATH)%\n", "GET /a", Some(&["GET", "/a"])),
            ("[%START_TIME%] \"%REQ(:METHOD)%\"", "[x] \"PUT\"", Some(&["x", "PUT"])),
            (path, "a:80/b?c=d x", Some(&["a:80", "/b?c=d"])),
            ("%REQ(:METHOD)% %REQ(:PATH)%\n", "GET", None),
            ("a %REQ(:PATH)% b", "a /x c", None),
            ("a%%%PROTOCOL%", "a%HTTP/2", Some(&["HTTP/2"])),
            ("%DURATION%ms", "", None),
            ("%DURATION%ms", "12ms", Some(&["12"])),
            ("%DURATION%ms", "12ms and more", None),
        ] {
            let expected = expected.map(|values| values.iter().map(|value| (*value).to_owned()).collect());
            assert_eq!(read(format, line), expected, "{format:?} {line:?}");
        }
    }

    #[test]
    fn two_operators_side_by_side_cannot_be_read() {
        let check = |text: &str| Format::parse(text).expect("a format").check_readable();
        assert!(check("%REQ(:AUTHORITY)%%REQ(:PATH)%").is_ok());
        let error = check("%DURATION%%PROTOCOL%").expect_err("nobody can tell");
        assert_eq!(error.message, "nobody can tell where %DURATION% ends and %PROTOCOL% begins");
    }
}
