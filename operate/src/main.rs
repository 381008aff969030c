//! What do people ask of naru, and what are they answered?
//!
//! The `naru` command. Everything that decides or carries is in the rooms below; here are only the
//! words on the command line, the admin interface, and what is printed.
#![forbid(unsafe_code)]

mod cli;
mod up_command;
mod check_command;
mod rechecked;
mod explain_command;
mod diff_command;
mod defaults_command;
mod import_command;
mod proxy_command;
mod control_command;
mod status_command;
mod sessions_command;
mod bootstrap_command;
mod simulate_command;
mod workload_command;
mod takeover;
mod systemd;
mod acme;
mod authority;
mod private;
mod discovery;
mod admin;
mod policies;
mod pages;
mod problems;
mod statuses;
mod say;
mod recent;
mod history;
mod members;
mod asking;
mod sources;
mod shared_config;
mod config_command;
mod lsp_command;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: naru_memory::MiMalloc = naru_memory::MiMalloc;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|word| word == naru_workloads::launch::WORD) {
        let error = naru_workloads::launch::run(&args.collect::<Vec<_>>());
        naru_say::say!("error: {error}");
        return ExitCode::FAILURE;
    }
    cli::run()
}
