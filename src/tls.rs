//! Certificates and keys on disk: read, judged, and watched for change.
//!
//! Every listener and every connection that speaks TLS reads its files here, speaks 1.2 and 1.3 and
//! nothing older, and uses one provider of cryptography.

use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::WebPkiClientVerifier;

use crate::time::Time;

/// Why a file does not serve.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("{}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It does not hold what it should.
    #[error("{}: {what}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What was expected, and what was found; never any of the file's octets.
        what: String,
    },
}

/// What all TLS here is made with.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    std::fs::read(path).map_err(|source| FileError::Unreadable { path: path.to_owned(), source })
}

/// The certificates in a PEM file, at least one.
///
/// # Errors
/// See [`FileError`].
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let pem = read(path)?;
    let fault = |what: String| FileError::Content { path: path.to_owned(), what };
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let found = found.map_err(|error| fault(error.to_string()))?;
    if found.is_empty() {
        return Err(fault("expected certificates as PEM, found none".into()));
    }
    Ok(found)
}

/// The private key in a PEM file.
///
/// # Errors
/// See [`FileError`].
pub fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, FileError> {
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|error| FileError::Content {
        path: path.to_owned(),
        what: format!("expected a private key as PEM: {error}"),
    })
}

/// The certificates in a PEM file as those that are trusted to sign others.
///
/// # Errors
/// See [`FileError`].
pub fn roots(path: &Path) -> Result<RootCertStore, FileError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| FileError::Content {
            path: path.to_owned(),
            what: error.to_string(),
        })?;
    }
    Ok(roots)
}

/// Of whom a listener asks for a certificate.
#[derive(Clone, Copy, Debug)]
pub enum Clients<'a> {
    /// Of nobody.
    Unasked,
    /// Of everybody, who may have none; one that is shown must be signed by this PEM file's.
    Asked(&'a Path),
    /// Of everybody, who must have one that is signed by this PEM file's.
    Required(&'a Path),
}

/// What a listener speaks TLS with, and when its certificate ends.
///
/// # Errors
/// See [`FileError`]; also when the certificate and the key do not go together.
pub fn server(
    cert_file: &Path,
    key_file: &Path,
    clients: Clients<'_>,
) -> Result<(ServerConfig, Option<Time>), FileError> {
    let unusable = |path: &Path, error: &dyn std::error::Error| FileError::Content {
        path: path.to_owned(),
        what: error.to_string(),
    };
    let chain = certificates(cert_file)?;
    let end = chain.first().and_then(not_after);
    let verifier = |path: &Path| {
        let roots = Arc::new(roots(path)?);
        Ok((WebPkiClientVerifier::builder_with_provider(roots, provider()), path.to_owned()))
    };
    let asked = match clients {
        Clients::Unasked => None,
        Clients::Required(path) => Some(verifier(path)?),
        Clients::Asked(path) => {
            let (verifier, path) = verifier(path)?;
            Some((verifier.allow_unauthenticated(), path))
        }
    };
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|error| unusable(cert_file, &error))?;
    let builder = match asked {
        None => builder.with_no_client_auth(),
        Some((verifier, path)) => {
            let verifier = verifier.build().map_err(|error| unusable(&path, &error))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let config = builder.with_single_cert(chain, private_key(key_file)?);
    Ok((config.map_err(|error| unusable(cert_file, &error))?, end))
}

/// When a certificate ends (RFC 5280 §4.1.2.5); none when it is no certificate.
pub fn not_after(certificate: &CertificateDer<'_>) -> Option<Time> {
    const VERSION: u8 = 0xa0;
    let certificate = Element::first(certificate)?;
    let mut rest = Element::first(certificate.content)?.content;
    if rest.first() == Some(&VERSION) {
        rest = Element::first(rest)?.rest;
    }
    // The serial number, the algorithm, and who has signed.
    for _ in 0..3 {
        rest = Element::first(rest)?.rest;
    }
    let not_before = Element::first(Element::first(rest)?.content)?;
    let not_after = Element::first(not_before.rest)?;
    date(not_after.tag, std::str::from_utf8(not_after.content).ok()?)
}

/// One element of DER (X.690 §8.1), with what follows it.
struct Element<'a> {
    tag: u8,
    content: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Element<'a> {
    fn first(octets: &'a [u8]) -> Option<Self> {
        let (&tag, octets) = octets.split_first()?;
        let (&length, octets) = octets.split_first()?;
        let (length, octets) = match length {
            0..=0x7f => (usize::from(length), octets),
            _ => {
                let count = Some(usize::from(length & 0x7f)).filter(|count| *count <= 4)?;
                let (digits, octets) = octets.split_at_checked(count)?;
                (digits.iter().fold(0, |n, digit| n << 8 | usize::from(*digit)), octets)
            }
        };
        let (content, rest) = octets.split_at_checked(length)?;
        Some(Self { tag, content, rest })
    }
}

/// A UTCTime, whose years of two digits are 1950 to 2049, or a GeneralizedTime.
fn date(tag: u8, text: &str) -> Option<Time> {
    let text = match tag {
        0x17 if text < "50" => format!("20{text}"),
        0x17 => format!("19{text}"),
        0x18 => text.to_owned(),
        _ => return None,
    };
    let civil = jiff::civil::DateTime::strptime("%Y%m%d%H%M%SZ", &text).ok()?;
    let instant = civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp();
    Some(Time::from_millis(u64::try_from(instant.as_millisecond()).ok()?))
}

/// What files were like when they were last looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look(Vec<Option<(SystemTime, u64)>>);

impl Look {
    /// Looks at files; one that is not there counts too.
    pub fn at<'a>(files: impl IntoIterator<Item = &'a Path>) -> Self {
        let look = |path: &Path| {
            let found = std::fs::metadata(path).ok()?;
            Some((found.modified().ok()?, found.len()))
        };
        Self(files.into_iter().map(look).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ending(year: i32) -> CertificateDer<'static> {
        let mut params = rcgen::CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 3, 9);
        params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    #[test]
    fn a_certificate_says_when_it_ends() {
        let seconds = |year| not_after(&ending(year)).map(Time::as_secs);
        assert_eq!(seconds(2027), Some(1_804_550_400));
        assert_eq!(seconds(2049), Some(2_498_860_800));
        assert_eq!(seconds(2051), Some(2_561_932_800), "a GeneralizedTime");
    }

    #[test]
    fn what_is_no_certificate_has_no_end() {
        let whole = ending(2027);
        for length in 0..whole.len().min(200) {
            let cut = CertificateDer::from(whole[..length].to_vec());
            assert_eq!(not_after(&cut), None, "{length} octets");
        }
        let endless = CertificateDer::from(vec![0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 0x30]);
        assert_eq!(not_after(&endless), None);
    }

    #[test]
    fn a_file_that_changes_comes_or_goes_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cert.pem");
        let look = || Look::at([path.as_path()]);
        let mut seen = vec![look()];
        for text in ["one", "three"] {
            std::fs::write(&path, text).unwrap();
            assert!(!seen.contains(&look()));
            seen.push(look());
        }
        std::fs::remove_file(&path).unwrap();
        assert_eq!(look(), seen[0]);
    }
}
