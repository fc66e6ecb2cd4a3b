//! TLS to a carrier: whom to trust, what to show.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::SupportedProtocolVersion;
use rustls::pki_types::ServerName;
use rustls_platform_verifier::BuilderVerifierExt;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use crate::time::Time;
use crate::tls;
use crate::tls::FileError;
use crate::tls::certificates;
use crate::tls::private_key;
use crate::tls::provider;
use crate::tls::roots;

/// TLS to a carrier. The files are read at each connection, so renewed ones need no restart; while
/// they cannot be used, those that could be used last are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Whether the carrier is reached by TLS.
    pub enabled: bool,
    /// The name in the SMSC's certificate, if it is not `host`.
    pub server_name: Option<String>,
    /// Whom to trust, as PEM; what the system trusts if not set.
    pub ca_file: Option<PathBuf>,
    /// Our certificate and those above it as PEM, where the carrier wants one.
    pub cert_file: Option<PathBuf>,
    /// The key of our certificate as PEM.
    pub key_file: Option<PathBuf>,
    /// The lowest version spoken.
    pub min_version: MinVersion,
}

/// The lowest version of TLS spoken.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum MinVersion {
    /// TLS 1.2 and 1.3.
    #[default]
    #[serde(rename = "1.2")]
    V1_2,
    /// TLS 1.3 only.
    #[serde(rename = "1.3")]
    V1_3,
}

/// Why TLS cannot be set up from what the config names.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file does not serve.
    #[error("{key} {source}")]
    File {
        /// The config's key.
        key: &'static str,
        /// Why.
        source: FileError,
    },
    /// `server_name` or `host` is no name that a certificate can have.
    #[error("server_name {0:?}: not a DNS name or address")]
    ServerName(String),
    /// The certificates and the key do not go together.
    #[error("tls: {0}")]
    Rustls(#[from] rustls::Error),
}

impl Config {
    /// What is wrong with the values, each with its key below this table.
    pub fn faults(&self) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        let mut fault = |key: &str, what: &str| faults.push((key.to_owned(), what.to_owned()));
        match (&self.cert_file, &self.key_file) {
            (Some(_), None) => fault("key_file", "expected beside cert_file"),
            (None, Some(_)) => fault("cert_file", "expected beside key_file"),
            _ => {}
        }
        let set = self.server_name.is_some()
            || self.ca_file.is_some()
            || self.cert_file.is_some()
            || self.key_file.is_some();
        if set && !self.enabled {
            fault("enabled", "is false, yet other keys of tls are set");
        }
        if let Some(name) = &self.server_name
            && ServerName::try_from(name.as_str()).is_err()
        {
            fault("server_name", "expected a DNS name or address");
        }
        faults
    }

    /// The name that the SMSC's certificate must have.
    ///
    /// # Errors
    /// When neither `server_name` nor `host` is one.
    pub fn name(&self, host: &str) -> Result<ServerName<'static>, TlsError> {
        let name = self.server_name.as_deref().unwrap_or(host);
        ServerName::try_from(name.to_owned()).map_err(|_| TlsError::ServerName(name.to_owned()))
    }

    /// The files that it names.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        [&self.ca_file, &self.cert_file, &self.key_file].into_iter().filter_map(|f| f.as_deref())
    }

    /// Reads the files and makes what rustls needs.
    ///
    /// # Errors
    /// When a file cannot be read or is not what its key says.
    pub fn load(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let versions: &[&SupportedProtocolVersion] = match self.min_version {
            MinVersion::V1_2 => &[&rustls::version::TLS13, &rustls::version::TLS12],
            MinVersion::V1_3 => &[&rustls::version::TLS13],
        };
        let builder =
            ClientConfig::builder_with_provider(provider()).with_protocol_versions(versions)?;
        let file = |key| move |source| TlsError::File { key, source };
        let trusting = match &self.ca_file {
            Some(path) => builder.with_root_certificates(roots(path).map_err(file("tls.ca_file"))?),
            None => builder.with_platform_verifier()?,
        };
        let config = match (&self.cert_file, &self.key_file) {
            (Some(cert), Some(key)) => {
                let chain = certificates(cert).map_err(file("tls.cert_file"))?;
                let key = private_key(key).map_err(file("tls.key_file"))?;
                trusting.with_client_auth_cert(chain, key)?
            }
            _ => trusting.with_no_client_auth(),
        };
        Ok(Arc::new(config))
    }

    /// When our certificate ends, if there is one.
    ///
    /// # Errors
    /// When its file does not serve.
    pub fn not_after(&self) -> Result<Option<Time>, TlsError> {
        let Some(path) = &self.cert_file else { return Ok(None) };
        let chain = certificates(path);
        let chain = chain.map_err(|source| TlsError::File { key: "tls.cert_file", source })?;
        Ok(chain.first().and_then(tls::not_after))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_belong_together_are_asked_for() {
        let config = Config {
            cert_file: Some("cert.pem".into()),
            server_name: Some("not a name".into()),
            ..Config::default()
        };
        let keys: Vec<_> = config.faults().into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["key_file", "enabled", "server_name"]);
    }

    #[test]
    fn a_file_that_is_missing_or_holds_something_else_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        let config = Config { enabled: true, ca_file: Some(path.clone()), ..Config::default() };
        let error = config.load().unwrap_err().to_string();
        assert!(error.starts_with("tls.ca_file ") && error.contains("ca.pem"), "{error}");
        std::fs::write(&path, "no certificate").unwrap();
        let error = config.load().unwrap_err().to_string();
        assert!(error.ends_with("expected certificates as PEM, found none"), "{error}");
    }

    #[test]
    fn the_certificate_is_the_hosts_unless_told() {
        let config = Config::default();
        assert_eq!(config.name("smsc.example").unwrap().to_str(), "smsc.example");
        let told = Config { server_name: Some("gw.example".into()), ..config };
        assert_eq!(told.name("192.0.2.1").unwrap().to_str(), "gw.example");
    }
}
