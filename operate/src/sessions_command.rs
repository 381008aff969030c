//! `naru sessions`: who keeps login sessions here, and how are sessions ended?

use http::Method;
use serde_json::Value;

use crate::asking::{ask, encode};
use crate::cli::{Failure, Output, SessionsArgs, SessionsCommand};
use crate::say::say;

pub fn run(args: &SessionsArgs) -> Result<(), Failure> {
    let answer = match &args.command {
        None => ask(&args.admin, &Method::GET, "/sessions?format=json", &[])?,
        Some(SessionsCommand::End { id, user, name }) => {
            ask(&args.admin, &Method::POST, &page(id.as_deref(), user.as_deref(), name.as_deref()), &[])?
        }
    };
    let told = match (args.output, &args.command) {
        (Output::Json, _) => format!("{answer:#}\n"),
        (Output::Text, None) => listed(&answer),
        (Output::Text, Some(_)) => ended(&answer),
    };
    Ok(say(&told)?)
}

fn page(id: Option<&str>, user: Option<&str>, name: Option<&str>) -> String {
    let said = [("id", id), ("user", user), ("name", name)];
    let said = said.iter().filter_map(|(what, text)| text.map(|text| format!("{what}={}", encode(text))));
    format!("/sessions/revoke?{}", said.collect::<Vec<_>>().join("&"))
}

/// A line for each of `SessionAuth`.
fn listed(answer: &Value) -> String {
    let all = answer["sessions"].as_array().map_or(&[][..], Vec::as_slice);
    if all.is_empty() {
        return "no gateway has sessions\n".to_owned();
    }
    let line = |one: &Value| {
        let store = if one["store_is_away"] == true { "away" } else { "there" };
        let count = |name: &str| one["counts"][name].as_u64().unwrap_or(0);
        format!(
            "{}: store {store}, {} keys, {} logins, {} refreshes, {} logouts, {} ended by operators, {} revoked\n",
            one["name"].as_str().unwrap_or(""),
            one["keys"].as_array().map_or(0, Vec::len),
            count("logins"),
            count("refreshes"),
            count("logouts"),
            count("ended_by_operators"),
            one["revoked"].as_u64().unwrap_or(0),
        )
    };
    all.iter().map(line).collect()
}

fn ended(answer: &Value) -> String {
    match answer["others"].as_str() {
        Some("told") => "ended; the other gateways know after their next look at the store\n".to_owned(),
        _ => "ended here; the store is away, and the others are told once it is back\n".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_name_is_written_so_that_it_arrives_as_it_is() {
        assert_eq!(page(None, Some("a&id=b c"), None), "/sessions/revoke?user=a%26id%3Db%20c");
        assert_eq!(
            page(Some("00"), None, Some("login.default")),
            "/sessions/revoke?id=00&name=login.default"
        );
    }

    #[test]
    fn what_came_of_it_is_told() {
        assert!(ended(&json!({ "others": "told" })).starts_with("ended;"));
        assert!(ended(&json!({ "others": "told later" })).contains("away"));
        assert_eq!(listed(&json!({ "sessions": [] })), "no gateway has sessions\n");
        let one =
            json!({ "sessions": [{ "name": "login.default", "keys": [1, 2], "counts": { "logins": 3 } }] });
        assert!(listed(&one).starts_with("login.default: store there, 2 keys, 3 logins, 0 refreshes"));
    }
}
