//! A condition that somebody wrote about a request: an expression of CEL, as a tree.
//!
//! Envoy's `condition` is such a tree; a document has its text, which `naru-condition` reads. Macros (`has`, `exists`)
//! stand in it as what they mean.

/// One expression. Operators are calls of functions with the names that CEL gives them: `_==_`, `_&&_`, `_[_]`.
#[derive(Clone, Debug, PartialEq)]
pub enum Cel {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Text(String),
    Bytes(Vec<u8>),
    Ident(String),
    Select(Box<CelSelect>),
    Call(Box<CelCall>),
    List(Vec<Cel>),
    Map(Vec<(Cel, Cel)>),
    Fold(Box<CelFold>),
}

/// `of.field`.
#[derive(Clone, Debug, PartialEq)]
pub struct CelSelect {
    pub of: Cel,
    pub field: String,
    /// Whether it is there, not what it is: `has(of.field)`.
    pub tests: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct CelCall {
    /// Of `target.function(..)`.
    pub target: Option<Cel>,
    pub function: String,
    pub args: Vec<Cel>,
}

/// Goes over a list, or the keys of a map, and keeps a value meanwhile.
#[derive(Clone, Debug, PartialEq)]
pub struct CelFold {
    /// What each one is called.
    pub item: String,
    pub over: Cel,
    /// What the kept value is called.
    pub kept: String,
    pub first: Cel,
    /// It goes on while this holds.
    pub goes_on: Cel,
    /// The kept value becomes this.
    pub step: Cel,
    pub result: Cel,
}

impl Cel {
    pub fn call(function: &str, args: Vec<Cel>) -> Cel {
        Cel::Call(Box::new(CelCall { target: None, function: function.to_owned(), args }))
    }

    pub fn select(of: Cel, field: &str) -> Cel {
        Cel::Select(Box::new(CelSelect { of, field: field.to_owned(), tests: false }))
    }
}
