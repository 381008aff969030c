//! Which files may a path mean?
//!
//! A path comes in as the client has written it, behind the normalization of its listener. Goes out: names below a
//! directory, in the order in which they are looked for. Whatever could lead out of the directory is none of them: dots,
//! slashes and NUL that were escaped, names that are hidden. That links lead nowhere else is the business of whoever
//! opens files.

use naru_spec::StaticFiles;

/// One name that is looked for, below the root, without a slash at its beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub path: Vec<u8>,
    pub status: u16,
    /// A directory of this name sends the client to itself with a slash.
    pub is_asked: bool,
}

/// What a path means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub candidates: Vec<Candidate>,
}

/// The most that a path may have: of names that long no file system knows.
const PATH_BYTES_MAX: usize = 4_096;

/// The names that a path may mean; only what is given instead of any where it can be none.
pub fn wanted(files: &StaticFiles, path: &str) -> Wanted {
    let mut candidates = Vec::new();
    if let Some((segments, is_directory)) = segments(files, path) {
        let path = segments.join(&b'/');
        if is_directory {
            for index in &files.index {
                let name = [&path[..], index.as_bytes()];
                let name = if path.is_empty() { name.concat() } else { name.join(&b'/') };
                candidates.push(Candidate { path: name, status: 200, is_asked: false });
            }
        } else {
            candidates.push(Candidate { path: path.clone(), status: 200, is_asked: true });
            for ending in &files.endings {
                let name = [&path[..], ending.as_bytes()].concat();
                candidates.push(Candidate { path: name, status: 200, is_asked: false });
            }
        }
    }
    let instead = [(&files.fallback, 200), (&files.not_found, 404)];
    for (path, status) in instead.into_iter().filter_map(|(path, status)| Some((path.as_ref()?, status))) {
        let path = path.trim_start_matches('/').as_bytes().to_vec();
        candidates.push(Candidate { path, status, is_asked: false });
    }
    candidates.retain(|candidate| candidate.path.len() <= PATH_BYTES_MAX);
    Wanted { candidates }
}

/// The names of a path, decoded, and whether it is that of a directory.
fn segments(files: &StaticFiles, path: &str) -> Option<(Vec<Vec<u8>>, bool)> {
    let rest = path.strip_prefix(files.prefix.trim_end_matches('/'))?;
    // `/assets` is no prefix of `/assets2`.
    if !rest.is_empty() && !rest.starts_with('/') {
        return None;
    }
    let is_directory = rest.is_empty() || rest.ends_with('/');
    let mut names = Vec::new();
    for segment in rest.split('/').filter(|segment| !segment.is_empty()) {
        let name = decoded(segment)?;
        let is_name = !name.contains(&b'/') && !name.contains(&0) && name != b"." && name != b"..";
        // RFC 8615 has a directory that everybody may see.
        let is_open =
            files.gives_hidden || !name.starts_with(b".") || (names.is_empty() && name == b".well-known");
        if !is_name || !is_open {
            return None;
        }
        names.push(name);
    }
    Some((names, is_directory))
}

fn decoded(segment: &str) -> Option<Vec<u8>> {
    let mut bytes = segment.bytes();
    let mut name = Vec::with_capacity(segment.len());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            name.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        let (high, low) = (digit(bytes.next())?, digit(bytes.next())?);
        name.push((high * 16 + low) as u8);
    }
    Some(name)
}

/// Where a client is sent that asks for a directory without its slash. It is on this host, whatever the path says.
pub fn with_slash(path: &str, query: Option<&str>) -> String {
    let mut location = String::from("/");
    for character in path.trim_start_matches(['/', '\\']).chars() {
        match character {
            '\\' => location.push_str("%5C"),
            character => location.push(character),
        }
    }
    // Two slashes at the beginning would be another host.
    if !location.ends_with('/') {
        location.push('/');
    }
    if let Some(query) = query {
        location.push('?');
        location.push_str(query);
    }
    location
}

/// Whether a name fits a pattern: `*` stands for any characters. A pattern without a slash is of the last name.
pub fn fits(pattern: &str, path: &[u8]) -> bool {
    let of_name = !pattern.contains('/');
    let path = match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) if of_name => path.get(at + 1..).unwrap_or_default(),
        _ => path,
    };
    let pattern = pattern.trim_start_matches('/').as_bytes();
    // The last star, and where what it stands for ends so far.
    let (mut at, mut here) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while here < path.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, here));
                at += 1;
            }
            Some(byte) if Some(byte) == path.get(here) => {
                at += 1;
                here += 1;
            }
            _ => match &mut star {
                Some((of_star, end)) => {
                    *end += 1;
                    at = *of_star + 1;
                    here = *end;
                }
                None => return false,
            },
        }
    }
    pattern.get(at..).unwrap_or_default().iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(files: &StaticFiles, path: &str) -> Vec<String> {
        let wanted = wanted(files, path);
        let names = wanted.candidates.iter().map(|one| {
            let status = if one.status == 200 { String::new() } else { format!(" {}", one.status) };
            format!("{}{status}", String::from_utf8_lossy(&one.path))
        });
        names.collect()
    }

    fn check(files: &StaticFiles, path: &str, expected: &[&str]) {
        assert_eq!(names(files, path), expected, "{path}");
    }

    #[test]
    fn a_path_means_a_name() {
        let files = StaticFiles::new("/srv");
        check(&files, "/", &["index.html"]);
        check(&files, "", &["index.html"]);
        check(&files, "/a.css", &["a.css"]);
        check(&files, "/a/b/", &["a/b/index.html"]);
        check(&files, "//a///b.css", &["a/b.css"]);
        check(&files, "/a%20b/%ED%95%9C.css", &["a b/한.css"]);
        check(&files, "/a..b/c...", &["a..b/c..."]);
        check(&files, "/.well-known/acme", &[".well-known/acme"]);
        check(&files, "/a\\..\\b", &["a\\..\\b"]);
    }

    #[test]
    fn what_could_lead_elsewhere_means_none() {
        let mut files = StaticFiles::new("/srv");
        for path in [
            "/../a",
            "/a/../b",
            "/a/..",
            "/./a",
            "/%2e%2e/a",
            "/%2E%2e%2fa",
            "/a%2fb",
            "/a%2Fb",
            "/a%00b",
            "/a%",
            "/a%2",
            "/a%zz",
            "/.git/config",
            "/a/.env",
            "/a/.well-known/b",
            "/%2ehidden",
            "/a/.",
        ] {
            check(&files, path, &[]);
        }
        check(&files, &format!("/{}", "a/".repeat(4_096)), &[]);
        files.gives_hidden = true;
        check(&files, "/a/.env", &["a/.env"]);
        check(&files, "/a/%2e%2E/b", &[]);
    }

    #[test]
    fn a_prefix_is_taken_away_whole() {
        let mut files = StaticFiles::new("/srv");
        for prefix in ["/assets", "/assets/"] {
            files.prefix = prefix.to_owned();
            check(&files, "/assets/a.css", &["a.css"]);
            check(&files, "/assets", &["index.html"]);
            check(&files, "/assets2/a.css", &[]);
            check(&files, "/b", &[]);
        }
    }

    #[test]
    fn names_are_tried_in_their_order() {
        let mut files = StaticFiles::new("/srv");
        files.endings = vec![".html".to_owned()];
        files.index = vec!["index.html".to_owned(), "index.htm".to_owned()];
        files.fallback = Some("/app.html".to_owned());
        files.not_found = Some("/404.html".to_owned());
        check(&files, "/about", &["about", "about.html", "app.html", "404.html 404"]);
        check(&files, "/a/", &["a/index.html", "a/index.htm", "app.html", "404.html 404"]);
        check(&files, "/../a", &["app.html", "404.html 404"]);
    }

    #[test]
    fn a_client_is_sent_to_this_host() {
        assert_eq!(with_slash("/a/b", None), "/a/b/");
        assert_eq!(with_slash("/a", Some("b=c")), "/a/?b=c");
        assert_eq!(with_slash("//evil.example/a", None), "/evil.example/a/");
        assert_eq!(with_slash("/\\evil.example", None), "/evil.example/");
        assert_eq!(with_slash("/a\\b", None), "/a%5Cb/");
        for root in ["", "/", "//", "/\\"] {
            assert_eq!(with_slash(root, None), "/");
        }
    }

    #[test]
    fn patterns_are_of_names_or_of_paths() {
        for (pattern, path, expected) in [
            ("*.css", "a/b.css", true),
            ("*.css", "a.css.map", false),
            ("*", "anything", true),
            ("/assets/*", "assets/a/b.js", true),
            ("/assets/*", "other/assets/b.js", false),
            ("*.????", "a.html", false),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxbyy", false),
            ("index.html", "a/index.html", true),
            ("/index.html", "a/index.html", false),
            ("*aab", "aaaab", true),
        ] {
            assert_eq!(fits(pattern, path.as_bytes()), expected, "{pattern} {path}");
        }
    }
}
