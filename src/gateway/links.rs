//! The links that run, by carrier: started, kept, replaced and stopped as the config changes.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::CarrierSection;
use crate::dispatch::BindId;
use crate::link;
use crate::link::Context;
use crate::link::Handle;
use crate::link::Link;

/// How long a replaced link may take to unbind before the new one connects.
const UNBINDING: Duration = Duration::from_secs(40);

/// The links of all carriers.
pub(super) struct Links {
    context: Context,
    running: BTreeMap<String, Running>,
}

/// The links of one carrier.
struct Running {
    config: link::Config,
    handles: Vec<Handle>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// What a reload did to the links.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkChanges {
    /// Carriers that are new.
    pub started: Vec<String>,
    /// Carriers whose links bind anew since their settings changed.
    pub replaced: Vec<String>,
    /// Carriers that are gone.
    pub stopped: Vec<String>,
    /// Carriers whose connections were not touched.
    pub kept: Vec<String>,
}

/// Links that were made and do not run yet.
pub(super) struct Ready {
    links: Vec<(TaskTracker, Link)>,
}

impl Ready {
    /// Lets them run.
    pub(super) fn go(self) {
        for (tasks, link) in self.links {
            tasks.spawn(link.run());
        }
    }
}

impl Links {
    /// No links yet; each will live within `context`.
    pub(super) const fn new(context: Context) -> Self {
        Self { context, running: BTreeMap::new() }
    }

    /// Makes the links that `carriers` ask for and does not have yet. Those whose settings changed
    /// are unbound first: a carrier must never see the new bind beside the old one.
    pub(super) async fn apply(
        &mut self,
        carriers: &BTreeMap<String, CarrierSection>,
    ) -> (LinkChanges, Ready) {
        let mut changes = LinkChanges::default();
        let mut ready = Vec::new();
        let gone: Vec<String> =
            self.running.keys().filter(|name| !carriers.contains_key(*name)).cloned().collect();
        for name in gone {
            self.end(&name).await;
            changes.stopped.push(name);
        }
        for (name, section) in carriers {
            let wanted = settings(section);
            match self.running.get(name) {
                Some(running) if running.config == wanted => {
                    changes.kept.push(name.clone());
                    continue;
                }
                Some(_) => {
                    self.end(name).await;
                    changes.replaced.push(name.clone());
                }
                None => changes.started.push(name.clone()),
            }
            self.begin(name, wanted, &mut ready);
        }
        (changes, Ready { links: ready })
    }

    fn begin(&mut self, name: &str, config: link::Config, ready: &mut Vec<(TaskTracker, Link)>) {
        let stop = self.context.shutdown.child_token();
        let context = Context { shutdown: stop.clone(), ..self.context.clone() };
        let tasks = TaskTracker::new();
        let mut handles = Vec::new();
        for (handle, link) in link::links(&Arc::from(name), &config, &context) {
            handles.push(handle);
            ready.push((tasks.clone(), link));
        }
        self.running.insert(name.to_owned(), Running { config, handles, tasks, stop });
    }

    async fn end(&mut self, name: &str) {
        let Some(running) = self.running.remove(name) else { return };
        running.stop.cancel();
        running.tasks.close();
        if timeout(UNBINDING, running.tasks.wait()).await.is_err() {
            tracing::warn!(carrier = name, "links that are to stop do not");
        }
    }

    /// The way to each bind.
    pub(super) fn handles(&self) -> HashMap<BindId, Handle> {
        let handles = self.running.values().flat_map(|running| &running.handles);
        handles.map(|handle| (handle.bind().clone(), handle.clone())).collect()
    }

    /// Unbinds everything, for at most `deadline`.
    pub(super) async fn stop(&self, deadline: Duration) {
        self.context.shutdown.cancel();
        let all = async {
            for running in self.running.values() {
                running.tasks.close();
                running.tasks.wait().await;
            }
        };
        if timeout(deadline, all).await.is_err() {
            tracing::warn!("some binds were cut: their carriers did not answer unbind in time");
        }
    }
}

/// A carrier's link settings; whether TLVs go out is said once, with its traffic.
fn settings(section: &CarrierSection) -> link::Config {
    let mut config = section.link.clone();
    config.session.send_tlvs = match section.traffic.send_tlvs {
        crate::route::SendTlvs::Auto => config.session.send_tlvs,
        crate::route::SendTlvs::Always => crate::session::SendTlvs::Always,
        crate::route::SendTlvs::Never => crate::session::SendTlvs::Never,
    };
    config
}
