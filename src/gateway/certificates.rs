//! The certificates in use: read anew when their files change, and when each ends.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::api::Certificate;
use crate::config::CarrierSection;
use crate::config::Config;
use crate::link::tls;
use crate::ops::CertificateSample;
use crate::time::Time;
use crate::tls::Look;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// The certificates of the listeners and of the links.
pub(super) struct Certificates {
    /// By the table of the config that names the files.
    doors: Vec<(&'static str, Certificate)>,
    carriers: Mutex<BTreeMap<String, Carrier>>,
    broken: Mutex<BTreeMap<&'static str, bool>>,
}

/// The files of a carrier's links, which read them at each connection.
struct Carrier {
    config: tls::Config,
    look: Look,
    not_after: Option<Time>,
    is_broken: bool,
}

impl Carrier {
    fn new(name: &str, config: &tls::Config) -> Self {
        let look = Look::at(config.files());
        let mut carrier = Self { config: config.clone(), look, not_after: None, is_broken: false };
        carrier.read(name);
        carrier
    }

    fn read(&mut self, name: &str) {
        match self.config.load().and_then(|_| self.config.not_after()) {
            Ok(not_after) => (self.not_after, self.is_broken) = (not_after, false),
            Err(error) => {
                self.is_broken = true;
                tracing::error!(carrier = name, %error, "TLS files cannot be used");
            }
        }
    }
}

impl Certificates {
    /// Those of these listeners, and of the carriers that speak TLS.
    pub(super) fn new(
        doors: Vec<(&'static str, Certificate)>,
        carriers: &BTreeMap<String, CarrierSection>,
    ) -> Self {
        let this = Self { doors, carriers: Mutex::default(), broken: Mutex::default() };
        this.follow_carriers(carriers);
        this
    }

    /// Reads what a changed config names: all of it, before any of it is in use.
    ///
    /// # Errors
    /// Which listener's files cannot be used; what was in use stays, of every listener.
    pub(super) fn follow(&self, config: &Config) -> Result<(), String> {
        let renewals: Result<Vec<_>, _> = self
            .doors
            .iter()
            .filter_map(|(table, certificate)| {
                let tls = match *table {
                    "admin.tls" => &config.admin.tls,
                    _ => &config.api.tls,
                };
                let renewal = certificate.renewal(tls.as_ref()?);
                Some(renewal.map_err(|error| format!("{table}: {error}")).map(|it| (*table, it)))
            })
            .collect();
        for (table, renewal) in renewals? {
            renewal.apply();
            locked(&self.broken).insert(table, false);
        }
        self.follow_carriers(&config.carriers);
        Ok(())
    }

    fn follow_carriers(&self, carriers: &BTreeMap<String, CarrierSection>) {
        let secured = carriers.iter().filter(|(_, section)| section.link.tls.enabled);
        let carriers = secured.map(|(name, section)| {
            let carrier = Carrier::new(name, &section.link.tls);
            (name.clone(), carrier)
        });
        *locked(&self.carriers) = carriers.collect();
    }

    /// Reads what has changed. What cannot be used is told once, and what was in use stays.
    pub(super) fn look(&self) {
        for (table, certificate) in &self.doors {
            let refreshed = certificate.refresh();
            match &refreshed {
                Ok(false) => continue,
                Ok(true) => tracing::info!(table, "a new certificate is in use"),
                Err(error) => {
                    tracing::error!(table, %error, "the new certificate cannot be used; the old one is");
                }
            }
            locked(&self.broken).insert(table, refreshed.is_err());
        }
        for (name, carrier) in locked(&self.carriers).iter_mut() {
            let look = Look::at(carrier.config.files());
            if look != carrier.look {
                carrier.look = look;
                carrier.read(name);
            }
        }
    }

    /// How they stand.
    pub(super) fn sample(&self) -> Vec<CertificateSample> {
        let broken = locked(&self.broken);
        let doors = self.doors.iter().map(|(table, certificate)| CertificateSample {
            holder: (*table).to_owned(),
            not_after: certificate.not_after(),
            is_broken: broken.get(table).copied().unwrap_or_default(),
        });
        let carriers = locked(&self.carriers);
        let carriers = carriers.iter().map(|(name, carrier)| CertificateSample {
            holder: format!("carriers.{name}"),
            not_after: carrier.not_after,
            is_broken: carrier.is_broken,
        });
        doors.chain(carriers).collect()
    }

    /// Looks again and again until `stop`.
    pub(super) async fn watch(self: Arc<Self>, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(LOOK_EVERY) => {}
            }
            let this = Arc::clone(&self);
            // The files may lie on a disk that is slow.
            if tokio::task::spawn_blocking(move || this.look()).await.is_err() {
                tracing::error!("certificates are not looked at any more");
                return;
            }
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Source;
    use crate::config::read;

    fn write(dir: &std::path::Path, year: i32) {
        let mut params = rcgen::CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let key = rcgen::KeyPair::generate().unwrap();
        std::fs::write(dir.join("c.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        std::fs::write(dir.join("c.key"), key.serialize_pem()).unwrap();
    }

    #[test]
    fn what_changes_is_read_and_what_breaks_is_told_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), 2040);
        let dir = dir.path();
        let (cert, key) = (dir.join("c.pem"), dir.join("c.key"));
        let text = format!(
            "[api.tls]\ncert_file = {cert:?}\nkey_file = {key:?}\n[carriers.a]\nhost = \"h\"\n\
             system_id = \"s\"\nrate = \"1/s\"\ntls = {{ enabled = true, ca_file = {cert:?}, \
             cert_file = {cert:?}, key_file = {key:?} }}\n"
        );
        let config = read(&Source::from_text("f", &text)).unwrap();
        let door = Certificate::load(config.api.tls.as_ref().unwrap()).unwrap();
        let certificates = Certificates::new(vec![("api.tls", door)], &config.carriers);
        let standing = || {
            certificates.look();
            let sample = certificates.sample().into_iter();
            sample.map(|s| (s.holder, s.not_after.unwrap().as_secs(), s.is_broken)).collect()
        };
        let both = |end: u64, broken: bool| -> Vec<_> {
            ["api.tls", "carriers.a"].map(|holder| (holder.to_owned(), end, broken)).into()
        };
        let now: Vec<_> = standing();
        assert_eq!(now, both(2_208_988_800, false));
        std::fs::write(dir.join("c.key"), "nonsense").unwrap();
        let now: Vec<_> = standing();
        assert_eq!(now, both(2_208_988_800, true));
        write(dir, 2041);
        let now: Vec<_> = standing();
        assert_eq!(now, both(2_240_611_200, false));
        certificates.follow_carriers(&BTreeMap::new());
        assert_eq!(certificates.sample().len(), 1);
    }

    #[test]
    fn a_reload_that_fails_for_one_listener_changes_none() {
        let (dir, admin) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let section = |table: &str, dir: &std::path::Path| {
            let (cert, key) = (dir.join("c.pem"), dir.join("c.key"));
            write(dir, 2040);
            format!("[{table}]\ncert_file = {cert:?}\nkey_file = {key:?}\n")
        };
        let text = section("api.tls", dir.path()) + &section("admin.tls", admin.path());
        let config = read(&Source::from_text("f", &text)).unwrap();
        let load = |tls: &Option<crate::api::config::Tls>| {
            Certificate::load(tls.as_ref().unwrap()).unwrap()
        };
        let doors =
            vec![("api.tls", load(&config.api.tls)), ("admin.tls", load(&config.admin.tls))];
        let certificates = Certificates::new(doors, &config.carriers);
        let ends = || -> Vec<_> {
            certificates.sample().iter().map(|it| it.not_after.unwrap().as_secs()).collect()
        };
        write(dir.path(), 2041);
        std::fs::write(admin.path().join("c.key"), "nonsense").unwrap();
        let refused = certificates.follow(&config).unwrap_err();
        assert!(refused.starts_with("admin.tls: "), "{refused}");
        assert_eq!(ends(), [2_208_988_800, 2_208_988_800]);
        write(admin.path(), 2041);
        certificates.follow(&config).unwrap();
        assert_eq!(ends(), [2_240_611_200, 2_240_611_200]);
    }
}
