//! How is whoever looks at a terminal told?
//!
//! By a line on standard error. Where nobody reads there any more, or the disk behind it is full, the line is lost and
//! nothing else: `eprintln!` would end what was just doing something else.
#![forbid(unsafe_code)]

use std::fmt::Arguments;
use std::io::{Write, stderr};

/// As `eprintln!`, and never panics.
#[macro_export]
macro_rules! say {
    ($($words:tt)*) => {
        $crate::say_line(format_args!($($words)*))
    };
}

/// In one piece, so that lines of several threads and processes stay apart.
pub fn say_line(words: Arguments<'_>) {
    let mut line = words.to_string();
    line.push('\n');
    // There is nobody left to tell.
    let _ = stderr().write_all(line.as_bytes());
}
