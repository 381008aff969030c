//! What is known of who asks, once tokens are verified.

use std::sync::Arc;

use naru_base::Json;
use naru_route::Claims;

/// A token that was verified.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    pub claims: Json,
    /// The payload as it is written in the token.
    pub payload: Box<str>,
}

/// The claims of a request, by what their providers call them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Identified {
    tokens: Vec<(Arc<str>, Arc<Token>)>,
    /// A token was verified, be it that nobody gives its claims a name.
    pub is_somebody: bool,
    /// What is known now may change which rule takes the request.
    pub reroutes: bool,
}

impl Identified {
    /// The last one of a name is the one.
    pub fn add(&mut self, name: &Arc<str>, token: Arc<Token>) {
        self.tokens.retain(|(known, _)| known != name);
        self.tokens.push((Arc::clone(name), token));
    }

    /// All that a token of that provider claims.
    pub fn claims(&self, name: &str) -> Option<&Json> {
        self.tokens.iter().find(|(known, _)| **known == *name).map(|(_, token)| &token.claims)
    }

    /// Each that has a name, with what it claims.
    pub fn all(&self) -> impl Iterator<Item = (&str, &Json)> {
        self.tokens.iter().map(|(name, token)| (&**name, &token.claims))
    }

    /// A claim of whatever token has it, by names within each other.
    pub fn claim(&self, path: &[String]) -> Option<&Json> {
        self.tokens.iter().rev().find_map(|(_, token)| token.claims.at(path.iter().map(String::as_str)))
    }
}

impl Claims for Identified {
    fn claim(&self, of: &str, path: &[String]) -> Option<&Json> {
        self.claims(of)?.at(path.iter().map(String::as_str))
    }
}
