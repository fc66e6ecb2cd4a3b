//! The certificate of the HTTPS listener, which changes while connections live.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem;
use rustls::pki_types::pem::PemObject;

use crate::api::config::Tls;

/// A certificate and its key in use; clones share it.
#[derive(Clone)]
pub struct Certificate {
    current: Arc<ArcSwap<ServerConfig>>,
    handshake_timeout: Duration,
}

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or is no PEM.
    #[error("{}: {fault}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        fault: pem::Error,
    },
    /// The file of the certificate has none in it.
    #[error("{}: no certificate in it", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The certificate and the key do not go together, or are not understood.
    #[error("{}: {fault}", path.display())]
    Unusable {
        /// The file of the certificate.
        path: PathBuf,
        /// What is wrong with it.
        fault: rustls::Error,
    },
}

impl Certificate {
    /// Reads the certificate and its key.
    ///
    /// # Errors
    /// Which file is wrong, and how.
    pub fn load(config: &Tls) -> Result<Self, TlsError> {
        Ok(Self {
            current: Arc::new(ArcSwap::from_pointee(read(config)?)),
            handshake_timeout: *config.handshake_timeout,
        })
    }

    /// Reads them anew; the next handshakes use them.
    ///
    /// # Errors
    /// Which file is wrong, and how; the certificate in use stays.
    pub fn reload(&self, config: &Tls) -> Result<(), TlsError> {
        self.current.store(Arc::new(read(config)?));
        Ok(())
    }

    pub(crate) fn current(&self) -> Arc<ServerConfig> {
        self.current.load_full()
    }

    pub(crate) const fn handshake_timeout(&self) -> Duration {
        self.handshake_timeout
    }
}

fn read(config: &Tls) -> Result<ServerConfig, TlsError> {
    let unreadable = |path: &PathBuf| {
        let path = path.clone();
        move |fault| TlsError::File { path, fault }
    };
    let unusable = |fault| TlsError::Unusable { path: config.cert_file.clone(), fault };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(&config.cert_file)
        .and_then(Iterator::collect)
        .map_err(unreadable(&config.cert_file))?;
    if chain.is_empty() {
        return Err(TlsError::Empty { path: config.cert_file.clone() });
    }
    let key =
        PrivateKeyDer::from_pem_file(&config.key_file).map_err(unreadable(&config.key_file))?;
    let mut server = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(unusable)?;
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(server)
}
