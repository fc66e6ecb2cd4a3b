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
use crate::config::Config;
use crate::gateway::certificates::Certificates;

/// The front doors while they are open.
pub(super) struct Doors {
    pub(super) address: SocketAddr,
    api: Arc<Api>,
    certificate: Option<Certificate>,
    certificates: Option<Arc<Certificates>>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Doors {
    pub(super) fn open(
        listener: TcpListener,
        api: Arc<Api>,
        config: &api::Config,
        certificate: Option<Certificate>,
        stop: CancellationToken,
    ) -> io::Result<Self> {
        let (address, tasks) = (listener.local_addr()?, TaskTracker::new());
        let serve = api::serve(
            listener,
            api.router(),
            config.limits.clone(),
            certificate.clone(),
            tasks.clone(),
            stop.clone(),
        );
        tasks.spawn(serve);
        Ok(Self { address, api, certificate, certificates: None, stop, tasks })
    }

    /// Lets the files of certificates be watched.
    pub(super) fn watching(self, certificates: Arc<Certificates>) -> Self {
        self.tasks.spawn(Arc::clone(&certificates).watch(self.stop.clone()));
        Self { certificates: Some(certificates), ..self }
    }

    pub(super) fn reload(&self, config: &Config) -> Result<(), String> {
        if let (Some(certificate), Some(tls)) = (&self.certificate, &config.api.tls) {
            certificate.reload(tls).map_err(|error| format!("api.tls: {error}"))?;
        }
        if let Some(certificates) = &self.certificates {
            certificates.follow(&config.carriers);
        }
        self.api.reload(&config.api);
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
