//! What the doors see of the rest: readiness and metrics.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::sync::watch;

use crate::api::admin;
use crate::api::backend;
use crate::api::backend::Unready;
use crate::api::problem::Code;
use crate::archive::Stamp;
use crate::dispatch::BindId;
use crate::dispatch::CarrierSnapshot;
use crate::dispatch::Snapshot;
use crate::gateway::ReloadAsked;
use crate::gateway::certificates::Certificates;
use crate::gateway::pump::Store;
use crate::journal::Reader;
use crate::link::BindState;
use crate::link::Board;
use crate::link::Status;
use crate::message::Class;
use crate::message::Position;
use crate::notify::Notify;
use crate::ops::Metrics;
use crate::ops::QueueSample;
use crate::ops::Sample;
use crate::session::Mode;

/// Health and counters, as they are at the moment.
pub(super) struct Surroundings {
    pub(super) metrics: Arc<Metrics>,
    pub(super) notify: Notify,
    pub(super) board: Arc<Board>,
    pub(super) store: watch::Receiver<Store>,
    pub(super) snapshot: watch::Receiver<Snapshot>,
    pub(super) reader: Reader,
    pub(super) applied: watch::Receiver<Position>,
    pub(super) draining: Arc<AtomicBool>,
    pub(super) live_limit: u64,
    pub(super) certificates: Arc<Certificates>,
    pub(super) reloads: mpsc::Sender<ReloadAsked>,
}

impl backend::Surroundings for Surroundings {
    fn unready(&self) -> Vec<Unready> {
        let mut reasons = Vec::new();
        if self.draining.load(Ordering::Relaxed) {
            let detail = "the gateway is stopping".to_owned();
            reasons.push(Unready { code: Code::Draining, detail });
        }
        if self.store.borrow().failed {
            let detail = "the journal cannot write; see the log for the disk's error".to_owned();
            reasons.push(Unready { code: Code::StoreUnavailable, detail });
        }
        let snapshot = self.snapshot.borrow();
        if snapshot.live as u64 >= self.live_limit {
            let detail = format!("{} live messages, as many as are allowed", snapshot.live);
            reasons.push(Unready { code: Code::QueueFull, detail });
        }
        reasons
    }

    fn metrics(&self) -> String {
        self.metrics.render(&self.sample())
    }

    fn carriers(&self) -> Vec<admin::Carrier> {
        let binds = self.board.snapshot();
        let snapshot = self.snapshot.borrow();
        snapshot.carriers.iter().map(|carrier| shown(carrier, &binds)).collect()
    }

    fn reload(&self) -> admin::Reloading {
        let reloads = self.reloads.clone();
        Box::pin(async move {
            let (answer, done) = oneshot::channel();
            reloads.send(answer).await.ok()?;
            done.await.ok()
        })
    }

    fn answered(&self, endpoint: &'static str, status: u16, took: Duration) {
        self.metrics.request(endpoint, status, took);
    }

    fn accepted(&self, encoding: &str, segments: u8) {
        self.metrics.accepted(encoding, segments.into());
    }

    fn shed(&self, class: Class) {
        self.metrics.shed(class);
    }

    fn replayed(&self) {
        self.metrics.replayed();
    }
}

/// A carrier as operators see it.
fn shown(carrier: &CarrierSnapshot, binds: &[(BindId, Status)]) -> admin::Carrier {
    let binds = binds.iter().filter(|(bind, _)| bind.carrier == carrier.carrier);
    let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    admin::Carrier {
        name: carrier.carrier.to_string(),
        rate: carrier.rate.to_string(),
        silent_for_ms: carrier.silent_for.map(millis),
        window: carrier.window,
        window_used: carrier.window_used,
        binds: binds.map(|(bind, status)| shown_bind(bind.index, status)).collect(),
        queues: carrier
            .lanes
            .iter()
            .map(|lane| admin::Queue {
                class: lane.class.as_str(),
                messages: lane.messages as u64,
                oldest_ms: lane.oldest.map(millis),
            })
            .collect(),
    }
}

fn shown_bind(index: u16, status: &Status) -> admin::Bind {
    admin::Bind {
        index,
        mode: match status.mode {
            Mode::Trx => "trx",
            Mode::Tx => "tx",
            Mode::Rx => "rx",
        },
        state: status.state.as_str(),
        since: Stamp(status.since),
        remote: status.remote.map(|remote| remote.to_string()),
        last_error: status.last_error.as_ref().map(|(_, why)| why.clone()),
        alarm: status.alarm,
    }
}

impl Surroundings {
    /// How far the archive is behind what is durable.
    fn behind(&self) -> u64 {
        self.store.borrow().end.0.saturating_sub(self.applied.borrow().0)
    }

    fn sample(&self) -> Sample {
        let binds = self
            .board
            .snapshot()
            .into_iter()
            .map(|(bind, status)| (bind.carrier, bind.index, status.state == BindState::Bound))
            .collect();
        let (snapshot, counters) = (self.snapshot.borrow(), self.notify.counters());
        let mut sample = Sample {
            binds,
            live_messages: snapshot.live as u64,
            orphans: snapshot.orphans as u64,
            archive_behind_bytes: self.behind(),
            webhook_backlog: self.notify.backlog(),
            webhook_dead: counters.dead(),
            webhooks_taken: counters.taken(),
            webhooks_failed: counters.failed(),
            store_bytes: self.reader.end().0.saturating_sub(self.reader.first().0),
            certificates: self.certificates.sample(),
            ..Sample::default()
        };
        for carrier in &snapshot.carriers {
            let name = &carrier.carrier;
            let rate = carrier.rate.as_millis();
            sample.carriers.push((name.clone(), carrier.window_used, rate));
            for lane in &carrier.lanes {
                sample.queues.push(QueueSample {
                    carrier: name.clone(),
                    class: lane.class,
                    messages: lane.messages as u64,
                    oldest: lane.oldest.unwrap_or_default(),
                });
            }
        }
        sample
    }
}
