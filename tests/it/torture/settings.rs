//! The configuration of the process, as it is at first and as an operator changes it.

use std::path::Path;

use super::draw::Draws;
use super::hooks::Hook;

/// Binds of each carrier.
pub(super) const BINDS: usize = 2;

/// The window of each bind.
pub(super) const WINDOW: usize = 20;

/// The most live messages.
const LIVE: usize = 600;

/// What does not change while the process lives.
#[derive(Debug)]
pub(super) struct Base<'a> {
    pub(super) data: &'a Path,
    pub(super) port: u16,
    pub(super) key: &'a str,
    pub(super) hooks: &'a [Hook],
    /// Where each carrier is found.
    pub(super) ways: Vec<u16>,
}

/// What a reload may change.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    rates: [u64; 2],
    /// The carriers that there are, as the route has them.
    carriers: &'static [usize],
    no_answer: &'static str,
}

impl Settings {
    /// As they are unless an operator has changed them.
    pub(super) const FIRST: Self = Self { rates: [400, 400], carriers: &[0, 1], no_answer: "2s" };

    /// Other rates, another way, and perhaps a carrier less.
    pub(super) fn drawn(draws: &mut Draws) -> Self {
        Self {
            rates: [(); 2].map(|()| draws.pick(&[20, 100, 400])),
            carriers: draws.pick(&[&[0, 1], &[1, 0], &[0], &[1]]),
            no_answer: draws.pick(&["1s", "2s", "4s"]),
        }
    }

    /// The file.
    pub(super) fn written(&self, base: &Base<'_>) -> String {
        let mut file = written_base(base);
        for index in self.carriers {
            file += &format!(
                "[carriers.c{index}]\nhost = \"127.0.0.1\"\nport = {}\nsystem_id = \"t\"\n\
                 rate = \"{}/s\"\nbinds = {BINDS}\n[carriers.c{index}.receipts]\n\
                 timeout = \"8s\"\n[carriers.c{index}.session]\nwindow = {WINDOW}\n\
                 [carriers.c{index}.session.timers]\nresponse = \"3s\"\nenquire_link = \"1s\"\n\
                 enquire_link_response = \"2s\"\n[carriers.c{index}.reconnect]\nmin = \"50ms\"\n\
                 max = \"500ms\"\n",
                base.ways[*index], self.rates[*index]
            );
        }
        let names: Vec<_> = self.carriers.iter().map(|index| format!("\"c{index}\"")).collect();
        file + &format!(
            "[[routes]]\nname = \"all\"\ncarriers = [{}]\n[routes.otp]\nno_bind = \"1s\"\n\
             no_answer = \"{}\"\n",
            names.join(", "),
            self.no_answer
        )
    }
}

fn written_base(base: &Base<'_>) -> String {
    let retries = ["\"300ms\"", "\"1s\"", "\"1s\""].join(", ") + &", \"2s\"".repeat(40);
    let mut file = format!(
        "data_dir = {:?}\ndrain = \"2s\"\n\
         [log]\nlevel = \"info,hikyaku::audit=warn\"\n[api]\nlisten = \"127.0.0.1:{}\"\n\
         [api.limits]\nconnections = 256\nbodies_octets = 4194304\nbatch_octets = 1048576\n\
         [api.clients.test]\nkeys = [\"{}\"]\nrate = \"100000/s\"\n\
         request_rate = \"100000/s\"\nscopes = [\"messages:write\", \"messages:read\", \
         \"messages:read_content\", \"webhooks\"]\n\
         [dispatch]\nlive_limit = {LIVE}\nbody_bytes = 1048576\nclean_above_bytes = 2097152\n\
         reassembly_timeout = \"2h\"\n\
         [journal]\nsegment_bytes = 262144\nbatch_bytes = 1048576\npending_bytes = 8388608\n\
         retry = \"100ms\"\n\
         [archive]\nflush_every = \"200ms\"\nwrite_live_after = \"1s\"\n\
         pending_messages = 2000\nrecent_events = 1000\n\
         [archive.inbound_owners]\n\"*\" = \"test\"\n\
         [webhooks]\nnetworks = [\"127.0.0.0/8\"]\ntimeout = \"2s\"\nbreaker_failures = 100000\n\
         retries = [{retries}]\n",
        base.data, base.port, base.key,
    );
    for (index, hook) in base.hooks.iter().enumerate() {
        file += &format!(
            "[webhooks.endpoints.hook{index}]\nclient = \"test\"\n\
             url = \"http://127.0.0.1:{}/\"\nsecret = \"whsec_{}\"\n",
            hook.port, "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
        );
    }
    file
}
