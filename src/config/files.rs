//! The files that a configuration names: whether they are there and hold what they should.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::api::Certificate;
use crate::config::CarrierSection;
use crate::config::Config;
use crate::config::Fault;
use crate::config::Source;
use crate::link;
use crate::session::Credentials;
use crate::tls;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// What keeps a part from working, in the order of the file.
    pub faults: Vec<Fault>,
    /// What is odd, in the order of the file.
    pub warnings: Vec<Fault>,
}

/// Looks at the files that `config` names, with the rights of this process.
pub fn files(config: &Config, source: &Source) -> Files {
    let mut found = Found::default();
    if let Some(tls) = &config.api.tls {
        found.listener("api.tls", tls);
    }
    if let Some(tls) = &config.admin.tls {
        found.listener("admin.tls", tls);
    }
    if let Some(path) = &config.webhooks.ca_file {
        found.note("webhooks.ca_file", tls::certificates(path));
    }
    for (name, endpoint) in &config.webhooks.endpoints {
        if let Some(path) = &endpoint.secret_file {
            found.private(&format!("webhooks.endpoints.{name}.secret_file"), path);
        }
    }
    for (name, section) in &config.carriers {
        found.carrier(&format!("carriers.{name}"), section);
    }
    Files { faults: source.locate(found.faults), warnings: source.locate(found.warnings) }
}

#[derive(Default)]
struct Found {
    faults: Vec<(String, String)>,
    warnings: Vec<(String, String)>,
}

impl Found {
    fn note<T, E: ToString>(&mut self, key: &str, read: Result<T, E>) {
        if let Err(error) = read {
            let what = error.to_string();
            self.faults.push((key.to_owned(), format!("{what}{}", cure(&what))));
        }
    }

    fn listener(&mut self, table: &str, tls: &crate::api::config::Tls) {
        self.private(&format!("{table}.key_file"), &tls.key_file);
        self.note(&format!("{table}.cert_file"), Certificate::load(tls));
    }

    fn carrier(&mut self, table: &str, section: &CarrierSection) {
        let link = &section.link;
        let key = match link.password_credential {
            None => format!("{table}.password_file"),
            Some(_) => format!("{table}.password_credential"),
        };
        match link.password_path() {
            Ok(None) => {}
            Ok(Some(path)) => {
                self.private(&key, &path);
                self.note(&key, password(link, &path));
            }
            Err(error) => self.warnings.push((key, error.to_string())),
        }
        if link.tls.enabled {
            if let Some(path) = &link.tls.key_file {
                self.private(&format!("{table}.tls.key_file"), path);
            }
            self.note(&format!("{table}.tls"), link.tls.load());
        }
    }

    /// Warns of a secret that every user of the machine can read.
    fn private(&mut self, key: &str, path: &Path) {
        let is_open = std::fs::metadata(path).is_ok_and(|found| found.mode() & 0o004 != 0);
        if is_open {
            let path = path.display();
            let what =
                format!("{path} can be read by every user of this machine: chmod o-r {path}");
            self.warnings.push((key.to_owned(), what));
        }
    }
}

/// Whether a file holds a password that can be sent; nothing of it is in the error.
fn password(link: &link::Config, path: &Path) -> Result<(), String> {
    let told = |error: io::Error| format!("{}: {error}", path.display());
    let text = std::fs::read_to_string(path).map(secrecy::SecretString::from).map_err(told)?;
    let text = secrecy::ExposeSecret::expose_secret(&text).trim_end_matches(['\r', '\n']);
    let checked = Credentials::new(&link.system_id, text);
    checked.map(drop).map_err(|error| format!("{}: {error}", path.display()))
}

/// What to do about a file that cannot be read.
fn cure(what: &str) -> &'static str {
    if what.contains("No such file") {
        "; make it, or correct the path"
    } else if what.contains("Permission denied") {
        "; let the user that runs hikyaku read it"
    } else {
        ""
    }
}
