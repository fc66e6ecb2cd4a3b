//! The certificate of an HTTPS listener, which changes while connections live.

use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;

use crate::api::config::ClientCertificates;
use crate::api::config::Tls;
use crate::time::Time;
use crate::tls;
use crate::tls::Clients;
use crate::tls::FileError;
use crate::tls::Look;

/// A certificate and its key in use; clones share it.
#[derive(Clone)]
pub struct Certificate {
    shared: Arc<Shared>,
}

struct Shared {
    held: ArcSwap<Held>,
    handshake_timeout: Duration,
    source: Mutex<Source>,
}

/// What handshakes use.
struct Held {
    server: Arc<ServerConfig>,
    not_after: Option<Time>,
}

/// A certificate that was read and is not in use yet.
pub struct Renewal {
    of: Arc<Shared>,
    held: Held,
    source: Source,
}

impl Renewal {
    /// The next handshakes use it.
    pub fn apply(self) {
        let mut source = self.of.source.lock().unwrap_or_else(PoisonError::into_inner);
        *source = self.source;
        self.of.held.store(Arc::new(self.held));
    }
}

/// Where it is from, and how the files were when they were read.
struct Source {
    config: Tls,
    look: Look,
}

impl Certificate {
    /// Reads the certificate and its key.
    ///
    /// # Errors
    /// Which file is wrong, and how.
    pub fn load(config: &Tls) -> Result<Self, FileError> {
        let source = Source::of(config);
        let held = ArcSwap::from_pointee(read(config)?);
        let handshake_timeout = *config.handshake_timeout;
        Ok(Self { shared: Arc::new(Shared { held, handshake_timeout, source: source.into() }) })
    }

    /// Reads what a config names, to be put in use later; until then nothing changes.
    ///
    /// # Errors
    /// Which file is wrong, and how.
    pub fn renewal(&self, config: &Tls) -> Result<Renewal, FileError> {
        let source = Source::of(config);
        Ok(Renewal { of: Arc::clone(&self.shared), held: read(config)?, source })
    }

    /// Reads them anew when a file has changed since they were read, and has the next handshakes use
    /// them; whether one had.
    ///
    /// # Errors
    /// Which file is wrong, and how, once for each change; the certificate in use stays.
    pub fn refresh(&self) -> Result<bool, FileError> {
        let mut source = self.shared.source.lock().unwrap_or_else(PoisonError::into_inner);
        let look = source.config.look();
        if look == source.look {
            return Ok(false);
        }
        source.look = look;
        self.shared.held.store(Arc::new(read(&source.config)?));
        Ok(true)
    }

    /// When the certificate in use ends.
    pub fn not_after(&self) -> Option<Time> {
        self.shared.held.load().not_after
    }

    pub(crate) fn current(&self) -> Arc<ServerConfig> {
        self.shared.held.load().server.clone()
    }

    pub(crate) fn handshake_timeout(&self) -> Duration {
        self.shared.handshake_timeout
    }
}

impl Source {
    /// Looked at before they are read: what changes in between is read once more.
    fn of(config: &Tls) -> Self {
        Self { config: config.clone(), look: config.look() }
    }
}

impl Tls {
    fn look(&self) -> Look {
        let files = [Some(&self.cert_file), Some(&self.key_file), self.client_ca_file.as_ref()];
        Look::at(files.into_iter().flatten().map(AsRef::<Path>::as_ref))
    }
}

fn read(config: &Tls) -> Result<Held, FileError> {
    let clients = match (&config.client_ca_file, config.client_certificates) {
        (None, _) => Clients::Unasked,
        (Some(path), ClientCertificates::Optional) => Clients::Asked(path),
        (Some(path), ClientCertificates::Required) => Clients::Required(path),
    };
    let (mut server, not_after) = tls::server(&config.cert_file, &config.key_file, clients)?;
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Held { server: Arc::new(server), not_after })
}
