//! The front doors while they are open.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api;
use crate::api::Api;
use crate::api::Certificate;
use crate::api::config::Limits;
use crate::api::config::Tls;
use crate::config::Config;
use crate::gateway::StartError;
use crate::gateway::certificates::Certificates;

/// A place to listen, with the certificate to show there.
pub(super) struct Place {
    listener: TcpListener,
    certificate: Option<Certificate>,
}

impl Place {
    /// Takes the address; `table` is the config's.
    pub(super) async fn take(
        table: &'static str,
        address: SocketAddr,
        tls: Option<&Tls>,
    ) -> Result<Self, StartError> {
        let listen = TcpListener::bind(address).await;
        let listener = listen.map_err(|source| StartError::Listen { table, address, source })?;
        let certificate = tls.map(Certificate::load).transpose();
        let certificate = certificate.map_err(|source| StartError::Tls { table, source })?;
        Ok(Self { listener, certificate })
    }
}

/// The places of the front doors.
pub(super) struct Places {
    pub(super) api: Place,
    pub(super) admin: Option<Place>,
}

impl Places {
    /// Takes what the config asks for.
    pub(super) async fn take(config: &Config) -> Result<Self, StartError> {
        let api = Place::take("api", config.api.listen, config.api.tls.as_ref()).await?;
        let admin = match config.admin.listen {
            Some(address) => Some(Place::take("admin", address, config.admin.tls.as_ref()).await?),
            None => None,
        };
        Ok(Self { api, admin })
    }

    /// The certificates, each with the table that names its files.
    pub(super) fn certificates(&self) -> Vec<(&'static str, Certificate)> {
        let api = self.api.certificate.clone().map(|held| ("api.tls", held));
        let admin = self.admin.as_ref().and_then(|admin| admin.certificate.clone());
        api.into_iter().chain(admin.map(|held| ("admin.tls", held))).collect()
    }
}

/// The front doors while they are open.
pub(super) struct Doors {
    pub(super) address: SocketAddr,
    pub(super) admin: Option<SocketAddr>,
    api: Arc<Api>,
    certificates: Arc<Certificates>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Doors {
    pub(super) fn open(
        places: Places,
        api: Arc<Api>,
        limits: &Limits,
        certificates: Arc<Certificates>,
        stop: CancellationToken,
    ) -> io::Result<Self> {
        let tasks = TaskTracker::new();
        let serve = |place: Place, router| {
            let address = place.listener.local_addr()?;
            let (limits, certificate) = (limits.clone(), place.certificate);
            let (tasks, stop) = (tasks.clone(), stop.clone());
            let serve =
                api::serve(place.listener, router, limits, certificate, tasks.clone(), stop);
            tasks.spawn(serve);
            io::Result::Ok(address)
        };
        let address = serve(places.api, api.router())?;
        let admin = places.admin.map(|place| serve(place, api.admin_router())).transpose()?;
        tasks.spawn(Arc::clone(&certificates).watch(stop.clone()));
        Ok(Self { address, admin, api, certificates, stop, tasks })
    }

    pub(super) fn reload(&self, config: &Config) -> Result<(), String> {
        self.certificates.follow(config)?;
        self.api.reload(&config.api, &config.admin);
        Ok(())
    }

    /// Takes no more requests, and lets those that are being answered finish.
    pub(super) async fn close(self, patience: Duration) {
        self.stop.cancel();
        self.tasks.close();
        if timeout(patience, self.tasks.wait()).await.is_err() {
            tracing::warn!("some HTTP requests were cut");
        }
    }
}
