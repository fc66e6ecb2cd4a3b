//! A certificate authority for tests: what it signs, and those who trust it.

use std::path::PathBuf;
use std::sync::Arc;

use hikyaku::link::tls;
use rcgen::CertificateParams;
use rcgen::CertifiedIssuer;
use rcgen::KeyPair;
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::TlsConnector;

/// A certificate authority, and the files of what it has signed.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: tempfile::TempDir,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let issuer = CertifiedIssuer::self_signed(params, key).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, folder }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Signs a certificate for `name`; it and its key are files of that name.
    pub(crate) fn sign(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        self.sign_until(name, 2049)
    }

    /// Signs a certificate that ends with the year before `year`.
    pub(crate) fn sign_until(&self, name: &str, year: i32) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.path(&format!("{name}.pem")), certificate.pem()).unwrap();
        std::fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
        (certificate, key)
    }

    /// A server's TLS with a certificate for `name`.
    pub(crate) fn acceptor(
        &self,
        name: &str,
        wants_certificate: bool,
        tls12_only: bool,
    ) -> TlsAcceptor {
        let signed = self.sign(name);
        self.acceptor_of(signed, wants_certificate, tls12_only)
    }

    /// A server's TLS with this certificate.
    pub(crate) fn acceptor_of(
        &self,
        (certificate, key): (rcgen::Certificate, KeyPair),
        wants_certificate: bool,
        tls12_only: bool,
    ) -> TlsAcceptor {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let versions: &[_] =
            if tls12_only { &[&rustls::version::TLS12] } else { rustls::ALL_VERSIONS };
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(versions)
            .unwrap();
        let builder = if wants_certificate {
            let roots = Arc::new(self.roots());
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let key = rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der());
        let chain = vec![certificate.der().clone()];
        TlsAcceptor::from(Arc::new(builder.with_single_cert(chain, key.into()).unwrap()))
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        roots
    }

    /// A client that trusts this authority and shows this certificate, if any.
    pub(crate) fn connector(&self, shows: Option<(rcgen::Certificate, KeyPair)>) -> TlsConnector {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.roots());
        let config = match shows {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let key = rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der());
                let chain = vec![certificate.der().clone()];
                builder.with_client_auth_cert(chain, key.into()).unwrap()
            }
        };
        TlsConnector::from(Arc::new(config))
    }

    /// A link's TLS that trusts this authority and expects `name`.
    pub(crate) fn trusted(&self, name: &str) -> tls::Config {
        tls::Config {
            enabled: true,
            server_name: Some(name.to_owned()),
            ca_file: Some(self.path("ca.pem")),
            ..tls::Config::default()
        }
    }

    /// A link's TLS that also shows the certificate of `ours`.
    pub(crate) fn showing(&self, name: &str, ours: &str) -> tls::Config {
        tls::Config {
            cert_file: Some(self.path(&format!("{ours}.pem"))),
            key_file: Some(self.path(&format!("{ours}.key"))),
            ..self.trusted(name)
        }
    }
}
