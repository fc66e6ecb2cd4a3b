//! TLS for a run, under a certificate that is made for it: what it costs.

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use clap::ValueEnum;
use rustls::ClientConfig;
use rustls::pki_types::IpAddr;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::cli::Failure;
use crate::tls;

/// What goes by TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Secured {
    /// Requests and the feed.
    Api,
    /// SMPP.
    Binds,
}

/// A certificate for 127.0.0.1, and what goes under it.
#[derive(Clone, Debug)]
pub(super) struct Tls {
    pub(super) cert: PathBuf,
    pub(super) key: PathBuf,
    pub(super) secured: Vec<Secured>,
}

/// rustls takes no certificate authority for a server.
const REQUEST: &str = "[req]\nprompt = no\ndistinguished_name = name\nx509_extensions = server\n\
                       [name]\nCN = bench\n\
                       [server]\nbasicConstraints = CA:FALSE\nsubjectAltName = IP:127.0.0.1\n";

impl Tls {
    /// Makes the certificate in `dir`, by openssl; none when nothing goes by TLS.
    pub(super) fn make(secured: &[Secured], dir: &Path) -> Result<Option<Self>, Failure> {
        if secured.is_empty() {
            return Ok(None);
        }
        let [cert, key, request] = ["cert.pem", "key.pem", "request.cnf"].map(|it| dir.join(it));
        std::fs::write(&request, REQUEST)?;
        let mut openssl = Command::new("openssl");
        openssl.args(["req", "-x509", "-nodes", "-days", "2", "-newkey", "ec"]);
        openssl.args(["-pkeyopt", "ec_paramgen_curve:P-256", "-config"]).arg(&request);
        openssl.arg("-keyout").arg(&key).arg("-out").arg(&cert);
        let made = openssl.output().map_err(|error| format!("--tls needs openssl: {error}"))?;
        if !made.status.success() {
            let why = String::from_utf8_lossy(&made.stderr);
            return Err(format!("openssl makes no certificate: {}", why.trim()).into());
        }
        Ok(Some(Self { cert, key, secured: secured.to_vec() }))
    }

    pub(super) fn secures(&self, what: Secured) -> bool {
        self.secured.contains(&what)
    }

    /// What trusts the certificate.
    pub(super) fn connector(&self) -> Result<TlsConnector, Failure> {
        let config = ClientConfig::builder_with_provider(tls::provider())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(tls::roots(&self.cert)?)
            .with_no_client_auth();
        Ok(Arc::new(config).into())
    }
}

/// A TLS connection to the gateway.
pub(super) async fn connect(
    connector: &TlsConnector,
    stream: TcpStream,
) -> std::io::Result<TlsStream<TcpStream>> {
    let here = IpAddr::from(std::net::IpAddr::from(std::net::Ipv4Addr::LOCALHOST));
    connector.connect(ServerName::IpAddress(here), stream).await
}
