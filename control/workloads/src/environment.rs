//! The variables of a process.

use std::path::Path;

/// Names that every process is given from naru's own environment.
const INHERITED: [&str; 8] = ["PATH", "HOME", "LANG", "LC_ALL", "TZ", "USER", "TMPDIR", "TERM"];

/// All of them. `PORT` and `NARU_INSTANCE` are always naru's: who is called where is decided here, and
/// a document is written for any number of replicas. The others may be said by the workload.
pub fn of(
    own: &[(String, String)],
    path_first: Option<&Path>,
    name: &str,
    port: u16,
) -> Vec<(String, String)> {
    let mut env: Vec<(String, String)> = Vec::new();
    let mut set = |name: &str, value: String| {
        env.retain(|(known, _)| known != name);
        env.push((name.to_owned(), value));
    };
    for name in INHERITED {
        if let Ok(value) = std::env::var(name) {
            set(name, value);
        }
    }
    if let Some(first) = path_first {
        let rest = std::env::var("PATH").unwrap_or_default();
        set("PATH", format!("{}:{rest}", first.display()));
    }
    // A namespace stands before a slash, which no name of a host has.
    set("HOSTNAME", name.replace('/', "-"));
    for (name, value) in own {
        set(name, value.clone());
    }
    set("PORT", port.to_string());
    set("NARU_INSTANCE", name.to_owned());
    env
}

/// `$(NAME)` is the value of a variable, `$$` is a dollar, and what has no value stays as it is:
/// Kubernetes' rule for commands and their arguments (`third_party/forked/golang/expansion`).
pub fn expand(text: &str, env: &[(String, String)]) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = after.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match env.iter().find(|(known, _)| known == name) {
                Some((_, value)) => out.push_str(value),
                None => out.push_str(&format!("$({name})")),
            }
            rest = after;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value<'a>(env: &'a [(String, String)], name: &str) -> Option<&'a str> {
        let values: Vec<&str> =
            env.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str()).collect();
        assert!(values.len() < 2, "{name} is there twice");
        values.first().copied()
    }

    #[test]
    fn what_naru_decides_stands_above_what_a_document_says() {
        let own = [("PORT", "80"), ("NARU_INSTANCE", "x"), ("HOSTNAME", "h"), ("A", "1")];
        let own: Vec<_> = own.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let env = of(&own, Some(Path::new("/first")), "shop/a-0", 20_001);
        assert_eq!(value(&env, "PORT"), Some("20001"));
        assert_eq!(value(&env, "NARU_INSTANCE"), Some("shop/a-0"));
        assert_eq!((value(&env, "HOSTNAME"), value(&env, "A")), (Some("h"), Some("1")));
        assert!(value(&env, "PATH").unwrap().starts_with("/first:"));
        assert_eq!(value(&env, "CARGO_MANIFEST_DIR"), None, "naru's own stay with naru");
        assert_eq!(value(&of(&[], None, "shop/a-0", 1), "HOSTNAME"), Some("shop-a-0"));
    }

    #[test]
    fn variables_in_commands_are_expanded_as_kubernetes_expands_them() {
        let env = vec![("PORT".to_owned(), "1".to_owned())];
        let check = |text: &str, expected: &str| assert_eq!(expand(text, &env), expected, "{text}");
        check("--port=$(PORT)!", "--port=1!");
        check("$(NONE)", "$(NONE)");
        check("$$(PORT)", "$(PORT)");
        check("$PORT $", "$PORT $");
        check("$(PORT", "$(PORT");
    }
}
