//! `hikyaku route`: explains a choice without sending anything.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::cli::Failure;
use crate::cli::messages::class;
use crate::cli::out;
use crate::config;
use crate::message::Class;
use crate::message::MessageId;
use crate::route::Query;
use crate::route::Seed;
use crate::text::address::E164;

#[derive(Debug, Args)]
pub(super) struct Route {
    /// The destination.
    number: String,
    /// The configuration file.
    #[arg(short, long, env = "HIKYAKU_CONFIG", default_value = "hikyaku.toml")]
    config: PathBuf,
    /// otp, transactional or marketing.
    #[arg(long, value_parser = class, default_value = "transactional")]
    class: Class,
    /// The API client that would send it.
    #[arg(long, default_value = "")]
    key: String,
    /// The sender.
    #[arg(long)]
    from: Option<String>,
    /// A tag; may be given several times.
    #[arg(long)]
    tag: Vec<String>,
    /// The route that the message would ask for by name.
    #[arg(long)]
    route: Option<String>,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

impl Route {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let source = config::Source::from_file(&self.config)?;
        let config = config::read(&source).map_err(|faults| source.draw(&faults))?;
        let routes = config.routes().map_err(|faults| format!("{faults:?}"))?;
        let to = E164::parse(&self.number, config.api.messages.region)
            .map_err(|error| format!("{}: {error}", self.number))?
            .digits();
        let tags: Vec<Box<str>> = self.tag.iter().map(|tag| tag.as_str().into()).collect();
        let query = Query {
            to: &to,
            class: self.class,
            key: &self.key,
            sender: self.from.as_deref(),
            tags: &tags,
            route: self.route.as_deref(),
        };
        let explanation = routes.explain(&query, Seed::of(MessageId::from_u128(0)));
        let text =
            if self.json { serde_json::to_string(&explanation)? } else { explanation.to_string() };
        out::say(&text)?;
        Ok(if explanation.route.is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
