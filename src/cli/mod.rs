//! The subcommands, a file each.

mod bench;
mod check;
mod client;
mod demo;
mod init;
mod key;
mod listen;
mod messages;
mod out;
mod route;
mod run;
mod schema;
mod smsc;

use std::process::ExitCode;

use clap::Parser;
use clap::Subcommand;

/// An SMPP gateway that loses no message.
#[derive(Debug, Parser)]
#[command(name = "hikyaku", version, about, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the gateway.
    Run(run::Run),
    /// Shows the main job: a gateway, three simulated carriers, one `curl` to try.
    Demo(demo::Demo),
    /// Runs a simulated carrier.
    Smsc(smsc::Smsc),
    /// Prints a commented configuration with every key at its default.
    Init,
    /// Checks a configuration: every fault at once, each with its place.
    Check(check::Check),
    /// Prints the JSON Schema of the configuration, for editors.
    Schema,
    /// Makes API keys.
    #[command(subcommand)]
    Key(key::Key),
    /// Sends a message through a running gateway.
    Send(messages::Send),
    /// Receives webhooks, checks their signatures and prints them.
    Listen(listen::Listen),
    /// Shows one message of a running gateway: its state and everything that happened to it.
    Message(messages::Message),
    /// Finds messages of a running gateway.
    Find(messages::Find),
    /// Measures the whole path on this machine.
    Bench(bench::Bench),
    /// Explains which route and carriers a message would take, and sends nothing.
    Route(route::Route),
}

/// Why a command fails: its message is for the person who typed it.
type Failure = Box<dyn std::error::Error>;

/// Runs the command that the process's arguments name.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli.command) {
        Ok(code) => code,
        Err(failure) => {
            out::complain(&format!("hikyaku: {failure}"));
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Run(run) => run.run(),
        Command::Demo(demo) => demo.run(),
        Command::Smsc(smsc) => smsc.run(),
        Command::Init => init::run(),
        Command::Check(check) => check.run(),
        Command::Schema => schema::run(),
        Command::Key(key) => key.run(),
        Command::Send(send) => send.run(),
        Command::Listen(listen) => listen.run(),
        Command::Message(message) => message.run(),
        Command::Find(find) => find.run(),
        Command::Bench(bench) => bench.run(),
        Command::Route(route) => route.run(),
    }
}
