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
        // Looked at before they are read: what changes in between is read once more.
        let source = Source { config: config.clone(), look: config.look() };
        let held = ArcSwap::from_pointee(read(config)?);
        let handshake_timeout = *config.handshake_timeout;
        Ok(Self { shared: Arc::new(Shared { held, handshake_timeout, source: source.into() }) })
    }

    /// Reads them anew; the next handshakes use them.
    ///
    /// # Errors
    /// Which file is wrong, and how; the certificate in use stays.
    pub fn reload(&self, config: &Tls) -> Result<(), FileError> {
        let mut source = self.shared.source.lock().unwrap_or_else(PoisonError::into_inner);
        source.look = config.look();
        self.shared.held.store(Arc::new(read(config)?));
        source.config = config.clone();
        Ok(())
    }

    /// Reads them anew when a file has changed since they were read; whether one had.
    ///
    /// # Errors
    /// As [`Certificate::reload`], once for each change.
    pub fn refresh(&self) -> Result<bool, FileError> {
        let source = self.shared.source.lock().unwrap_or_else(PoisonError::into_inner);
        let config = source.config.clone();
        let is_same = config.look() == source.look;
        drop(source);
        if is_same { Ok(false) } else { self.reload(&config).map(|()| true) }
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
