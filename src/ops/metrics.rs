//! `/metrics`: what happened, in OpenMetrics text. Labels come from closed sets only.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use prometheus_client::registry::Unit;

use crate::dispatch::Notice;
use crate::message::Class;
use crate::pdu::CommandStatus;
use crate::time::Time;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CarrierLabel {
    carrier: Arc<str>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct BindLabels {
    carrier: Arc<str>,
    bind: u32,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct LaneLabels {
    carrier: Arc<str>,
    class: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ClassLabel {
    class: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct SubmitLabels {
    carrier: Arc<str>,
    class: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReceiptLabels {
    carrier: Arc<str>,
    state: Arc<str>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct FinishLabels {
    state: &'static str,
    class: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct FallbackLabels {
    from: Arc<str>,
    to: Arc<str>,
    why: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    endpoint: &'static str,
    status: u32,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct EncodingLabel {
    encoding: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct HolderLabel {
    holder: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

type SecondsGauge = Gauge<f64, AtomicU64>;

/// What is measured by looking, at the moment of a scrape.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// Carrier, bind index, and whether it is up.
    pub binds: Vec<(Arc<str>, u16, bool)>,
    /// Carrier, requests without an answer, and segments a second in force in thousandths.
    pub carriers: Vec<(Arc<str>, u32, u64)>,
    /// The queues.
    pub queues: Vec<QueueSample>,
    /// Receipts that wait for their answer.
    pub orphans: u64,
    /// Accepted and not terminal.
    pub live_messages: u64,
    /// Octets of the journal on disk.
    pub store_bytes: u64,
    /// The certificates.
    pub certificates: Vec<CertificateSample>,
    /// Octets of the journal that the archive, and so the feed, has yet to read.
    pub archive_behind_bytes: u64,
    /// Events that no webhook endpoint has taken yet.
    pub webhook_backlog: u64,
    /// Deliveries given up.
    pub webhook_dead: u64,
    /// Webhook calls that the endpoint took, since the start.
    pub webhooks_taken: u64,
    /// Webhook calls that failed, since the start.
    pub webhooks_failed: u64,
}

/// One certificate at the moment of a scrape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateSample {
    /// The table of the config that names its files: `api.tls`, `carriers.NAME`.
    pub holder: String,
    /// When the one in use ends.
    pub not_after: Option<Time>,
    /// Whether the files hold something that cannot be used.
    pub is_broken: bool,
}

/// One queue at the moment of a scrape.
#[derive(Clone, Debug)]
pub struct QueueSample {
    /// The carrier.
    pub carrier: Arc<str>,
    /// The class.
    pub class: Class,
    /// How many messages wait.
    pub messages: u64,
    /// How long the oldest has waited.
    pub oldest: Duration,
}

/// Every metric of the process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    bind_up: Family<BindLabels, Gauge>,
    submit_segments: Family<SubmitLabels, Counter>,
    submit_response: Family<CarrierLabel, Histogram>,
    window_used: Family<CarrierLabel, Gauge>,
    rate_limit: Family<CarrierLabel, SecondsGauge>,
    queue_messages: Family<LaneLabels, Gauge>,
    queue_oldest: Family<LaneLabels, SecondsGauge>,
    live_messages: Gauge,
    receipts: Family<ReceiptLabels, Counter>,
    receipts_unmatched: Gauge,
    receipts_orphaned: Family<CarrierLabel, Counter>,
    receipts_unreadable: Family<CarrierLabel, Counter>,
    delivery: Family<CarrierLabel, Histogram>,
    messages_finished: Family<FinishLabels, Counter>,
    fallbacks: Family<FallbackLabels, Counter>,
    unknown_outcomes: Family<CarrierLabel, Counter>,
    throttled: Family<CarrierLabel, Counter>,
    alarms: Family<CarrierLabel, Counter>,
    segments: Family<EncodingLabel, Counter>,
    api_requests: Family<RequestLabels, Counter>,
    api_request: Histogram,
    messages_shed: Family<ClassLabel, Counter>,
    idempotent_replays: Counter,
    webhook_attempts: Family<OutcomeLabel, Counter>,
    archive_behind: Gauge,
    webhook_backlog: Gauge,
    webhook_dead: Gauge,
    tls_not_after: Family<HolderLabel, SecondsGauge>,
    tls_broken: Family<HolderLabel, Gauge>,
    store_commit: Histogram,
    store_syncs: Counter,
    store_bytes: Gauge,
}

/// From half a millisecond to a minute.
const FAST: [f64; 14] =
    [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0];

/// From a tenth of a second to three days.
const SLOW: [f64; 14] = [
    0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3_600.0, 21_600.0, 86_400.0, 259_200.0,
];

fn fast() -> Histogram {
    Histogram::new(FAST)
}

fn slow() -> Histogram {
    Histogram::new(SLOW)
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("hikyaku"),
            bind_up: Family::default(),
            submit_segments: Family::default(),
            submit_response: Family::new_with_constructor(fast),
            window_used: Family::default(),
            rate_limit: Family::default(),
            queue_messages: Family::default(),
            queue_oldest: Family::default(),
            live_messages: Gauge::default(),
            receipts: Family::default(),
            receipts_unmatched: Gauge::default(),
            receipts_orphaned: Family::default(),
            receipts_unreadable: Family::default(),
            delivery: Family::new_with_constructor(slow),
            messages_finished: Family::default(),
            fallbacks: Family::default(),
            unknown_outcomes: Family::default(),
            throttled: Family::default(),
            alarms: Family::default(),
            segments: Family::default(),
            api_requests: Family::default(),
            api_request: fast(),
            messages_shed: Family::default(),
            idempotent_replays: Counter::default(),
            webhook_attempts: Family::default(),
            archive_behind: Gauge::default(),
            webhook_backlog: Gauge::default(),
            webhook_dead: Gauge::default(),
            tls_not_after: Family::default(),
            tls_broken: Family::default(),
            store_commit: fast(),
            store_syncs: Counter::default(),
            store_bytes: Gauge::default(),
        };
        metrics.register_carriers();
        metrics.register_messages();
        metrics.register_doors();
        metrics
    }
}

impl Metrics {
    fn register_carriers(&mut self) {
        let r = &mut self.registry;
        r.register("bind_up", "1 when the bind is up", self.bind_up.clone());
        r.register(
            "submit_segments",
            "Segments answered, by outcome",
            self.submit_segments.clone(),
        );
        r.register_with_unit(
            "submit_response",
            "From a submit to its answer",
            Unit::Seconds,
            self.submit_response.clone(),
        );
        r.register("window_used", "Requests without an answer", self.window_used.clone());
        r.register("rate_limit", "Segments a second in force", self.rate_limit.clone());
        r.register("queue_messages", "Messages that wait", self.queue_messages.clone());
        r.register_with_unit(
            "queue_oldest",
            "How long the oldest message has waited",
            Unit::Seconds,
            self.queue_oldest.clone(),
        );
        r.register("throttled", "Answers that asked to slow down", self.throttled.clone());
        r.register(
            "alarms",
            "Refusals that point to a wrong setting of the carrier",
            self.alarms.clone(),
        );
        r.register("unknown_outcomes", "Submits without an answer", self.unknown_outcomes.clone());
    }

    fn register_messages(&mut self) {
        let r = &mut self.registry;
        r.register("live_messages", "Accepted and not terminal", self.live_messages.clone());
        r.register("receipts", "Receipts matched, by state", self.receipts.clone());
        r.register(
            "receipts_unmatched",
            "Receipts that wait for their answer",
            self.receipts_unmatched.clone(),
        );
        r.register(
            "receipts_orphaned",
            "Receipts that matched nothing when they came",
            self.receipts_orphaned.clone(),
        );
        r.register(
            "receipts_unreadable",
            "Receipts that could not be read",
            self.receipts_unreadable.clone(),
        );
        r.register_with_unit(
            "delivery",
            "From submit to final receipt",
            Unit::Seconds,
            self.delivery.clone(),
        );
        r.register(
            "messages_finished",
            "Messages that ended, by state",
            self.messages_finished.clone(),
        );
        r.register("fallbacks", "Messages sent on to another carrier", self.fallbacks.clone());
        r.register("segments", "Segments accepted, by encoding", self.segments.clone());
    }

    fn register_doors(&mut self) {
        let r = &mut self.registry;
        r.register("api_requests", "HTTP requests answered", self.api_requests.clone());
        r.register_with_unit(
            "api_request",
            "From an HTTP request to its answer",
            Unit::Seconds,
            self.api_request.clone(),
        );
        r.register(
            "messages_shed",
            "Messages refused since the gateway was too full for their class",
            self.messages_shed.clone(),
        );
        r.register(
            "idempotent_replays",
            "Requests answered from an earlier one",
            self.idempotent_replays.clone(),
        );
        r.register("webhook_attempts", "Webhook calls, by outcome", self.webhook_attempts.clone());
        r.register(
            "webhook_backlog",
            "Events that no endpoint has taken yet",
            self.webhook_backlog.clone(),
        );
        r.register_with_unit(
            "tls_cert_not_after",
            "When the certificate in use ends, since 1970",
            Unit::Seconds,
            self.tls_not_after.clone(),
        );
        r.register(
            "tls_files_broken",
            "1 when the files of a certificate hold something that cannot be used",
            self.tls_broken.clone(),
        );
        r.register("webhook_dead", "Webhook deliveries given up", self.webhook_dead.clone());
        r.register_with_unit(
            "store_commit",
            "From a batch to its place on disk",
            Unit::Seconds,
            self.store_commit.clone(),
        );
        r.register("store_syncs", "Syncs of the journal", self.store_syncs.clone());
        r.register_with_unit(
            "store",
            "Octets of the journal on disk",
            Unit::Bytes,
            self.store_bytes.clone(),
        );
        r.register_with_unit(
            "archive_behind",
            "Octets of the journal that the archive has yet to read",
            Unit::Bytes,
            self.archive_behind.clone(),
        );
        let info = prometheus_client::metrics::info::Info::new(vec![(
            "version",
            env!("CARGO_PKG_VERSION"),
        )]);
        r.register("build", "The release that runs", info);
    }

    /// Counts what the dispatcher tells.
    pub fn notice(&self, notice: &Notice) {
        match notice {
            Notice::SegmentAnswered { carrier, class, status, took } => {
                self.answered(carrier, *class, *status, *took);
            }
            Notice::SegmentUnknown { carrier, class } => {
                let label = CarrierLabel { carrier: carrier.clone() };
                self.unknown_outcomes.get_or_create(&label).inc();
                self.outcome(carrier, *class, "unknown");
            }
            Notice::ReceiptMatched { carrier, state, took } => {
                let labels = ReceiptLabels { carrier: carrier.clone(), state: state.clone() };
                self.receipts.get_or_create(&labels).inc();
                let label = CarrierLabel { carrier: carrier.clone() };
                self.delivery.get_or_create(&label).observe(took.as_secs_f64());
            }
            Notice::ReceiptUnmatched { carrier } => {
                let label = CarrierLabel { carrier: carrier.clone() };
                self.receipts_orphaned.get_or_create(&label).inc();
            }
            Notice::ReceiptUnreadable { carrier } => {
                let label = CarrierLabel { carrier: carrier.clone() };
                self.receipts_unreadable.get_or_create(&label).inc();
            }
            Notice::Fallback { from, to, reason } => {
                let labels =
                    FallbackLabels { from: from.clone(), to: to.clone(), why: reason.as_str() };
                self.fallbacks.get_or_create(&labels).inc();
            }
            Notice::Finished { state, class, .. } => {
                let labels = FinishLabels { state: state.as_str(), class: class.as_str() };
                self.messages_finished.get_or_create(&labels).inc();
            }
            Notice::Alarm { carrier, .. } => {
                let label = CarrierLabel { carrier: carrier.clone() };
                self.alarms.get_or_create(&label).inc();
            }
            Notice::RateChanged { .. } => {}
        }
    }

    fn answered(&self, carrier: &Arc<str>, class: Class, status: CommandStatus, took: Duration) {
        let label = CarrierLabel { carrier: carrier.clone() };
        self.submit_response.get_or_create(&label).observe(took.as_secs_f64());
        let throttled =
            matches!(status, CommandStatus::ESME_RTHROTTLED | CommandStatus::ESME_RMSGQFUL);
        if throttled {
            self.throttled.get_or_create(&label).inc();
        }
        let outcome = match status {
            CommandStatus::ESME_ROK => "accepted",
            _ if throttled => "throttled",
            _ => "refused",
        };
        self.outcome(carrier, class, outcome);
    }

    fn outcome(&self, carrier: &Arc<str>, class: Class, outcome: &'static str) {
        let labels = SubmitLabels { carrier: carrier.clone(), class: class.as_str(), outcome };
        self.submit_segments.get_or_create(&labels).inc();
    }

    /// Counts the segments of an accepted message.
    pub fn accepted(&self, encoding: &str, segments: u64) {
        let encoding = match encoding {
            "gsm7" => "gsm7",
            "ucs2" => "ucs2",
            "latin1" => "latin1",
            "ascii" => "ascii",
            "binary" => "binary",
            _ => "other",
        };
        self.segments.get_or_create(&EncodingLabel { encoding }).inc_by(segments);
    }

    /// Counts one HTTP request.
    pub fn request(&self, endpoint: &'static str, status: u16, took: Duration) {
        let labels = RequestLabels { endpoint, status: u32::from(status) };
        self.api_requests.get_or_create(&labels).inc();
        self.api_request.observe(took.as_secs_f64());
    }

    /// Counts a message that was refused for want of room.
    pub fn shed(&self, class: Class) {
        self.messages_shed.get_or_create(&ClassLabel { class: class.as_str() }).inc();
    }

    /// Counts one request that was answered from an earlier one.
    pub fn replayed(&self) {
        self.idempotent_replays.inc();
    }

    /// Notes how long one batch took to reach the disk.
    pub fn committed(&self, took: Duration) {
        self.store_commit.observe(took.as_secs_f64());
    }

    /// Counts one sync of the journal, however many batches it took.
    pub fn synced(&self) {
        self.store_syncs.inc();
    }

    /// Everything, as OpenMetrics text.
    pub fn render(&self, sample: &Sample) -> String {
        self.take(sample);
        let mut text = String::new();
        // Writing to a String does not fail.
        let _infallible = encode(&mut text, &self.registry);
        text
    }

    fn take(&self, sample: &Sample) {
        for (carrier, bind, up) in &sample.binds {
            let labels = BindLabels { carrier: carrier.clone(), bind: u32::from(*bind) };
            self.bind_up.get_or_create(&labels).set(i64::from(*up));
        }
        for (carrier, window_used, rate) in &sample.carriers {
            let label = CarrierLabel { carrier: carrier.clone() };
            self.window_used.get_or_create(&label).set(i64::from(*window_used));
            self.rate_limit.get_or_create(&label).set(thousandths(*rate));
        }
        for queue in &sample.queues {
            let labels = LaneLabels { carrier: queue.carrier.clone(), class: queue.class.as_str() };
            self.queue_messages.get_or_create(&labels).set(whole(queue.messages));
            self.queue_oldest.get_or_create(&labels).set(queue.oldest.as_secs_f64());
        }
        for certificate in &sample.certificates {
            let label = HolderLabel { holder: certificate.holder.clone() };
            self.tls_broken.get_or_create(&label).set(i64::from(certificate.is_broken));
            if let Some(not_after) = certificate.not_after {
                let seconds = u32::try_from(not_after.as_secs()).unwrap_or(u32::MAX);
                self.tls_not_after.get_or_create(&label).set(f64::from(seconds));
            }
        }
        self.live_messages.set(whole(sample.live_messages));
        self.receipts_unmatched.set(whole(sample.orphans));
        self.store_bytes.set(whole(sample.store_bytes));
        self.archive_behind.set(whole(sample.archive_behind_bytes));
        self.webhooks("taken", sample.webhooks_taken);
        self.webhooks("failed", sample.webhooks_failed);
        self.webhook_backlog.set(whole(sample.webhook_backlog));
        self.webhook_dead.set(whole(sample.webhook_dead));
    }

    /// Brings a counter up to what was counted elsewhere.
    fn webhooks(&self, outcome: &'static str, total: u64) {
        let counter = self.webhook_attempts.get_or_create(&OutcomeLabel { outcome });
        counter.inc_by(total.saturating_sub(counter.get()));
    }
}

fn whole(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn thousandths(millis: u64) -> f64 {
    f64::from(u32::try_from(millis).unwrap_or(u32::MAX)) / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_is_in_the_text() {
        let metrics = Metrics::default();
        let carrier: Arc<str> = "docomo".into();
        metrics.notice(&Notice::SegmentAnswered {
            carrier: carrier.clone(),
            class: Class::Otp,
            status: CommandStatus::ESME_RTHROTTLED,
            took: Duration::from_millis(3),
        });
        metrics.accepted("ucs2", 10);
        let sample = Sample {
            binds: vec![(carrier.clone(), 0, true)],
            carriers: vec![(carrier, 4, 50_500)],
            certificates: vec![CertificateSample {
                holder: "api.tls".into(),
                not_after: Some(Time::from_secs(2_208_988_800)),
                is_broken: true,
            }],
            ..Sample::default()
        };
        let text = metrics.render(&sample);
        for line in [
            "hikyaku_bind_up{carrier=\"docomo\",bind=\"0\"} 1",
            "hikyaku_submit_segments_total{carrier=\"docomo\",class=\"otp\",outcome=\"throttled\"} 1",
            "hikyaku_throttled_total{carrier=\"docomo\"} 1",
            "hikyaku_rate_limit{carrier=\"docomo\"} 50.5",
            "hikyaku_tls_cert_not_after_seconds{holder=\"api.tls\"} 2208988800.0",
            "hikyaku_tls_files_broken{holder=\"api.tls\"} 1",
            "hikyaku_window_used{carrier=\"docomo\"} 4",
            "hikyaku_segments_total{encoding=\"ucs2\"} 10",
            "hikyaku_build_info{version=\"0.1.0\"} 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
    }
}
