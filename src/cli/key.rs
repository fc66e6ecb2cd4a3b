//! `hikyaku key`: API keys.

use std::process::ExitCode;

use clap::Args;
use clap::Subcommand;

use crate::api::NewKey;
use crate::cli::Failure;
use crate::cli::out;

#[derive(Debug, Subcommand)]
pub(super) enum Key {
    /// Makes a key: the token for the client, and the line for the configuration.
    Add(Add),
}

#[derive(Debug, Args)]
pub(super) struct Add {
    /// The client's name in the configuration.
    client: String,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

impl Key {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let Self::Add(add) = self;
        let key = NewKey::generate().map_err(|error| format!("no randomness: {error}"))?;
        let hash = key.hash.to_string();
        let text = if add.json {
            serde_json::json!({ "client": add.client, "token": key.token, "hash": hash })
                .to_string()
        } else {
            format!(
                "The token, shown this once; give it to the client:\n\n    {}\n\n\
                 Its hash, for the configuration:\n\n    [api.clients.{}]\n    keys = [\"{hash}\"]\n",
                key.token, add.client
            )
        };
        out::say(&text)?;
        Ok(ExitCode::SUCCESS)
    }
}
