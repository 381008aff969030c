//! What do people ask of naru, and what are they answered?
//!
//! The `naru` command. Everything that decides or carries is in the rooms below; here are only the
//! words on the command line, the admin interface, and what is printed.
#![forbid(unsafe_code)]

mod cli;
mod check_command;
mod explain_command;
mod defaults_command;
mod proxy_command;
mod simulate_command;
mod admin;
mod problems;
mod say;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: naru_memory::MiMalloc = naru_memory::MiMalloc;

fn main() -> ExitCode {
    cli::run()
}
