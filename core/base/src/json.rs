//! A value of JSON as plain data: what a token claims, what a policy asks of it.
//!
//! Members of an object stand in the order in which they were written, each once. Deliberately not here:
//! reading and writing (`wire/jose`).

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    Null,
    Bool(bool),
    /// A number without a fraction, as far as 64 bits go.
    Whole(i64),
    Real(f64),
    Text(String),
    List(Vec<Json>),
    Map(Vec<(String, Json)>),
}

impl Json {
    /// The member of that name.
    pub fn get(&self, name: &str) -> Option<&Json> {
        let Json::Map(members) = self else { return None };
        members.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// The value at the end of a path of names.
    pub fn at<'a>(&self, path: impl IntoIterator<Item = &'a str>) -> Option<&Json> {
        path.into_iter().try_fold(self, Json::get)
    }

    pub fn as_text(&self) -> Option<&str> {
        match self {
            Json::Text(text) => Some(text),
            _ => None,
        }
    }

    pub fn as_whole(&self) -> Option<i64> {
        match self {
            Json::Whole(whole) => Some(*whole),
            _ => None,
        }
    }

    /// The values of a list; of anything else that value alone.
    pub fn each(&self) -> &[Json] {
        match self {
            Json::List(values) => values,
            one => std::slice::from_ref(one),
        }
    }
}

impl From<&str> for Json {
    fn from(text: &str) -> Self {
        Json::Text(text.to_owned())
    }
}

impl From<i64> for Json {
    fn from(whole: i64) -> Self {
        Json::Whole(whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_found_at_the_end_of_a_path() {
        let inner = Json::Map(vec![("b".to_owned(), Json::Whole(1)), ("c".to_owned(), "text".into())]);
        let outer = Json::Map(vec![("a".to_owned(), inner)]);
        assert_eq!(outer.at(["a", "b"]).and_then(Json::as_whole), Some(1));
        assert_eq!(outer.at(["a", "c"]).and_then(Json::as_text), Some("text"));
        assert_eq!(outer.at(["a", "b", "d"]), None);
        assert_eq!(outer.at([]), Some(&outer));
    }

    #[test]
    fn one_value_is_a_list_of_one() {
        assert_eq!(Json::Whole(1).each(), [Json::Whole(1)]);
        assert_eq!(Json::List(vec![]).each(), []);
    }
}
