//! xtask
//! What does the project need done that is not the project itself?
//!
//! `cargo xtask` alone lists the commands. Each is one file.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "its answers go to a person at a terminal")]

// In reading order: the commands, then what they share.
mod demo;
mod test;
mod setup;
mod bench;
mod instructions;
mod simulate_speed;
mod fuzz;
mod sent_once;
mod explained;
mod prove;
mod control_plane;
mod changed_route;
mod soak;
mod limits;
mod http1_beside;
mod workspace;
mod process;
mod usage;
mod http;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The project's own tools")]
struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs naru on an example, beside an upstream of its own, until Ctrl-C.
    Demo(demo::Options),
    /// Checks form and lints, builds, and runs all tests: the gate.
    Test(test::Options),
    /// Installs what the tests and benches need beside Rust: packages of Debian, a Python environment under target/.
    Setup(setup::Options),
    /// Measures naru, the bare forwarder and the peers side by side; writes bench/RESULTS.md.
    Bench(bench::Options),
    /// Counts what a request costs in instructions, naru's against the bare forwarder's.
    Instructions(instructions::Options),
    /// Measures how many requests a second of processor time simulates.
    SimulateSpeed(simulate_speed::Options),
    /// Gives the readers of foreign bytes whatever a fuzzer can think of.
    Fuzz(fuzz::Options),
    /// Sends many requests over connections that break, and sees that none is sent twice that may have acted.
    SentOnce(sent_once::Options),
    /// Asks 'naru explain' about many random requests, and sees that the proxy does what it says.
    Explained(explained::Options),
    /// Changes configuration, certificates and process under load, many times, and sees that no request is lost.
    Prove(prove::Options),
    /// Loads the limits of the traffic guide, on one proxy and on three, and sees that they admit what they say.
    Limits(limits::Options),
    /// Drives Envoy and clients of gRPC by xDS, with ten thousand requests and calls each.
    ControlPlane(control_plane::Options),
    /// Changes one route of ten thousand, again and again, and tells how soon a connected proxy has it.
    ChangedRoute(changed_route::Options),
    /// Breaks connections, networks and upstreams under load for minutes, and sees that the ledger balances.
    Soak(soak::Options),
    /// Sends generated messages of HTTP/1 through naru and its peers, and sees that naru is never the laxer one.
    Http1Beside(http1_beside::Options),
}

fn main() -> anyhow::Result<()> {
    match Options::parse().command {
        Command::Demo(options) => demo::run(&options),
        Command::Test(options) => test::run(&options),
        Command::Setup(options) => setup::run(&options),
        Command::Bench(options) => bench::run(&options),
        Command::Instructions(options) => instructions::run(&options),
        Command::SimulateSpeed(options) => simulate_speed::run(&options),
        Command::Fuzz(options) => fuzz::run(&options),
        Command::SentOnce(options) => sent_once::run(&options),
        Command::Explained(options) => explained::run(&options),
        Command::Prove(options) => prove::run(&options),
        Command::Limits(options) => limits::run(&options),
        Command::ControlPlane(options) => control_plane::run(&options),
        Command::ChangedRoute(options) => changed_route::run(&options),
        Command::Soak(options) => soak::run(&options),
        Command::Http1Beside(options) => http1_beside::run(&options),
    }
}
