//! The gateway's configuration: how many keys, webhook endpoints, carriers and binds it has.

use std::fmt::Write;
use std::path::Path;
use std::path::PathBuf;

use clap::Args;

use crate::api::KeyHash;
use crate::api::NewKey;
use crate::cli::Failure;
use crate::cli::bench::tls::Secured;
use crate::cli::bench::tls::Tls;

/// How large the gateway's world is.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct Size {
    /// The window of each bind.
    #[arg(long, default_value_t = 1_000)]
    pub(super) window: u16,
    /// How many binds each carrier has.
    #[arg(long, default_value_t = 2)]
    pub(super) binds: u16,
    /// How many carriers share the messages. A route has at most 16, so beyond that there is a
    /// route, and a key that takes it, for each 16.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) carriers: u16,
    /// How many API keys, each of a client of its own, hand messages in by turns.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) keys: u16,
    /// How many webhook endpoints there are: one a key that hears of its messages, and the others
    /// wait for messages of handsets, which never come. As many as keys when not given.
    #[arg(long)]
    pub(super) endpoints: Option<u16>,
}

impl Size {
    /// How many routes share the carriers.
    const fn routes(self) -> u16 {
        self.carriers.div_ceil(CARRIERS_A_ROUTE)
    }

    /// How many clients there are: at least one for each route.
    pub(super) fn clients(self) -> u16 {
        self.keys.max(self.routes())
    }

    /// How many binds there are in all.
    pub(super) const fn all_binds(self) -> u64 {
        self.binds as u64 * self.carriers as u64
    }
}

/// The most carriers of one route.
const CARRIERS_A_ROUTE: u16 = 16;

/// The most live messages, so that none is refused however many are measured.
const LIVE_LIMIT: u64 = 100_000_000;

/// Where the gateway listens, binds and sends webhooks.
#[derive(Clone, Debug)]
pub(super) struct Ports {
    pub(super) api: u16,
    /// One a carrier.
    pub(super) carriers: Vec<u16>,
    /// None when nobody is told.
    pub(super) hook: Option<u16>,
}

/// The clients' keys.
pub(super) struct Keys(Vec<NewKey>);

impl Keys {
    pub(super) fn new(count: u16) -> Result<Self, Failure> {
        let keys = (0..count).map(|_| NewKey::generate()).collect::<Result<_, _>>();
        Ok(Self(keys.map_err(|error| format!("no randomness: {error}"))?))
    }

    pub(super) fn tokens(&self) -> Vec<String> {
        self.0.iter().map(|key| key.token.clone()).collect()
    }

    fn hashes(&self) -> impl Iterator<Item = (usize, KeyHash)> {
        self.0.iter().map(|key| key.hash).enumerate()
    }
}

/// Writes the gateway's configuration and says where it is.
pub(super) fn write(
    size: Size,
    dir: &Path,
    ports: &Ports,
    keys: &Keys,
    tls: Option<&Tls>,
) -> Result<PathBuf, Failure> {
    let mut text = format!(
        "data_dir = {dir:?}\n[log]\nlevel = \"warn\"\n[api]\nlisten = \"127.0.0.1:{}\"\n\
         [dispatch]\nlive_limit = {LIVE_LIMIT}\n",
        ports.api
    );
    let secured = |what| tls.filter(|tls| tls.secures(what));
    if let Some(Tls { cert, key, .. }) = secured(Secured::Api) {
        write!(text, "[api.tls]\ncert_file = {cert:?}\nkey_file = {key:?}\n")?;
    }
    for (client, hash) in keys.hashes() {
        write!(
            text,
            "[api.clients.bench_{client}]\nkeys = [\"{hash}\"]\n\
             scopes = [\"messages:write\", \"messages:read\"]\nrate = \"1000000/s\"\n\
             request_rate = \"1000000/s\"\n"
        )?;
    }
    for (carrier, port) in ports.carriers.iter().enumerate() {
        write!(
            text,
            "[carriers.bench_{carrier}]\nhost = \"127.0.0.1\"\nport = {port}\nsystem_id = \"bench\"\n\
             binds = {}\nrate = \"1000000/s\"\n[carriers.bench_{carrier}.session]\nwindow = {}\n",
            size.binds, size.window
        )?;
        if let Some(Tls { cert, .. }) = secured(Secured::Binds) {
            write!(text, "[carriers.bench_{carrier}.tls]\nenabled = true\nca_file = {cert:?}\n")?;
        }
    }
    write_routes(size, &mut text)?;
    if let Some(hook) = ports.hook {
        write_endpoints(size, hook, &mut text)?;
    }
    let path = dir.join("hikyaku.toml");
    std::fs::write(&path, text)?;
    Ok(path)
}

/// Each route has its share of the carriers, and of the clients.
fn write_routes(size: Size, text: &mut String) -> std::fmt::Result {
    for route in 0..size.routes() {
        let share = |all: u16| (route..all).step_by(size.routes().into());
        let group = share(size.carriers).map(|n| format!("{{ carrier = \"bench_{n}\" }}"));
        let keys = share(size.clients()).map(|n| format!("\"bench_{n}\""));
        write!(
            text,
            "[[routes]]\nname = \"bench_{route}\"\ncarriers = [{{ any = [{}] }}]\n\
             [routes.match]\nkey = [{}]\n",
            group.collect::<Vec<_>>().join(", "),
            keys.collect::<Vec<_>>().join(", ")
        )?;
    }
    Ok(())
}

fn write_endpoints(size: Size, hook: u16, text: &mut String) -> std::fmt::Result {
    write!(text, "[webhooks]\nhttps_only = false\nnetworks = [\"127.0.0.0/8\"]\n")?;
    let clients = size.clients();
    for endpoint in 0..size.endpoints.unwrap_or(clients) {
        let event = if endpoint < clients { "message.delivered" } else { "inbound.received" };
        write!(
            text,
            "[webhooks.endpoints.bench_{endpoint}]\nclient = \"bench_{}\"\n\
             url = \"http://127.0.0.1:{hook}/hook\"\nevents = [\"{event}\"]\n\
             secret = \"whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD\"\n",
            endpoint % clients
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::config::Source;

    #[test]
    fn what_is_written_has_no_faults() {
        let dir = std::env::temp_dir().join(format!("hikyaku-setup-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        for (carriers, keys, clients, routes) in [(3, 2, 2, 1), (40, 2, 3, 3), (16, 1, 1, 1)] {
            let size = Size { window: 10, binds: 2, carriers, keys, endpoints: Some(5) };
            let carriers = usize::from(carriers);
            let ports = Ports { api: 8080, carriers: vec![2775; carriers], hook: Some(8081) };
            let keys = Keys::new(size.clients()).unwrap();
            let path = write(size, &dir, &ports, &keys, None).unwrap();
            let config = config::read(&Source::from_file(&path).unwrap()).unwrap();
            let counts = (config.api.clients.len(), config.carriers.len(), config.routes.len());
            assert_eq!(counts, (clients, carriers, routes));
            assert_eq!(config.webhooks.endpoints.len(), 5);
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn what_goes_by_tls_is_what_was_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let [cert, key] = ["cert.pem", "key.pem"].map(|name| dir.path().join(name));
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        std::fs::write(&cert, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        let size = Size { window: 10, binds: 2, carriers: 1, keys: 1, endpoints: None };
        let ports = Ports { api: 8080, carriers: vec![2775], hook: None };
        for secured in [vec![], vec![Secured::Api], vec![Secured::Binds, Secured::Api]] {
            let tls = Tls { cert: cert.clone(), key: key.clone(), secured };
            let path = write(size, dir.path(), &ports, &Keys::new(1).unwrap(), Some(&tls)).unwrap();
            let config = config::read(&Source::from_file(&path).unwrap()).unwrap();
            assert_eq!(config.api.tls.is_some(), tls.secures(Secured::Api));
            let carriers: Vec<_> = config.carriers.values().map(|it| it.link.tls.enabled).collect();
            assert_eq!(carriers, [tls.secures(Secured::Binds)]);
        }
    }
}
