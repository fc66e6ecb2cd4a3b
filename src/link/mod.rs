//! Connections to carriers: a task for each bind that drives its session.
//!
//! [`links`] gives what a carrier's config asks for, a [`Link`] to run and a [`Handle`] to talk to
//! for each bind. A link keeps its bind up until `shutdown`: it connects, binds, waits after each
//! loss or refusal as [`backoff`] says, and unbinds properly at the end. What happens is told as
//! [`dispatch::Event`](crate::dispatch::Event)s, and the [`Board`] shows where each bind stands.
//!
//! Nothing that one SMSC does reaches another: each link has its own task, its own limits and its
//! own timers. When the gateway does not take events, a link stops reading, so the SMSC waits; its
//! timers run on.

pub mod backoff;
mod board;
mod config;
mod dial;
mod drive;
mod handle;
pub mod tls;
mod wire;

use std::fmt;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use secrecy::ExposeSecret;
use secrecy::SecretString;
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::dispatch::BindId;
use crate::dispatch::Event;
use crate::link::backoff::Backoff;
use crate::link::backoff::Cause;
use crate::link::backoff::Refusal;
use crate::link::board::Plate;
use crate::link::drive::Drive;
use crate::link::drive::Outcome;
use crate::link::handle::Shared;
use crate::link::handle::Wish;
use crate::session::Credentials;
use crate::session::CredentialsError;
use crate::session::End;
use crate::time::Span;
use crate::time::Time;

pub use self::board::BindState;
pub use self::board::Board;
pub use self::board::Status;
pub use self::config::BindMode;
pub use self::config::Config;
pub use self::config::Leg;
pub use self::config::NoCredentials;
pub use self::dial::Connection;
pub use self::dial::Dial;
pub use self::dial::DialError;
pub use self::dial::Dialled;
pub use self::dial::Stream;
pub use self::dial::Tcp;
pub use self::handle::Handle;

/// What all links share.
#[derive(Clone, Debug)]
pub struct Context {
    /// The shell's clock.
    pub clock: Clock,
    /// Where events go. They must be taken until the links have ended, or the other end dropped.
    pub events: mpsc::Sender<Event>,
    /// Where each bind stands.
    pub board: Arc<Board>,
    /// Ends all links, in good order.
    pub shutdown: CancellationToken,
}

/// The links that `config` asks for, over TCP, each with its handle. The caller runs them.
pub fn links(carrier: &Arc<str>, config: &Config, context: &Context) -> Vec<(Handle, Link)> {
    let config = Arc::new(config.clone());
    let link = |leg: Leg| {
        let dial = Box::new(Tcp::new(config.clone(), leg.port));
        Link::new(carrier, &config, leg, dial, context)
    };
    config.legs().into_iter().map(link).collect()
}

/// One bind that is kept up.
pub struct Link {
    bind: BindId,
    config: Arc<Config>,
    leg: Leg,
    dial: Box<dyn Dial>,
    clock: Clock,
    events: mpsc::Sender<Event>,
    board: Arc<Board>,
    plate: Arc<Plate>,
    shutdown: CancellationToken,
    shared: Arc<Shared>,
    wishes: watch::Receiver<Wish>,
    backoff: Backoff,
    /// Our number for the SMSC's last request, through all binds of this link: an answer to an
    /// earlier bind's request can never be taken for that of a later one's.
    deliveries: u32,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("bind", &self.bind).finish_non_exhaustive()
    }
}

impl Link {
    /// One bind over connections that `dial` makes.
    pub fn new(
        carrier: &Arc<str>,
        config: &Arc<Config>,
        leg: Leg,
        dial: Box<dyn Dial>,
        context: &Context,
    ) -> (Handle, Self) {
        let Context { clock, events, board, shutdown } = context.clone();
        let bind = BindId { carrier: carrier.clone(), index: leg.index };
        let handle = Handle::new(bind.clone());
        let status = Status::new(clock.now(), leg.mode, config.session.window);
        let plate = board.hang(bind.clone(), status);
        let (shared, config) = (handle.shared(), config.clone());
        let wishes = shared.wishes();
        let backoff = Backoff::new(config.reconnect, getrandom::u64().unwrap_or_default());
        let link = Self {
            bind,
            config,
            leg,
            dial,
            clock,
            events,
            board,
            plate,
            shutdown,
            shared,
            wishes,
            backoff,
            deliveries: 0,
        };
        (handle, link)
    }

    /// Keeps the bind up until `shutdown`, or until nobody takes events.
    pub async fn run(mut self) {
        while self.wanted().await {
            let rebinds = self.wishes.borrow_and_update().rebinds;
            let down = self.attempt().await;
            if self.shutdown.is_cancelled() || self.events.is_closed() {
                break;
            }
            // One that was asked for a fresh bind gets it now.
            if self.wishes.borrow().rebinds == rebinds {
                self.wait(down).await;
            }
        }
        self.plate.enter(self.clock.now(), BindState::Stopped);
    }

    /// Waits until there shall be a bind; false when there shall never be one again.
    async fn wanted(&mut self) -> bool {
        let now = self.clock.now();
        if !self.wishes.borrow_and_update().up {
            self.plate.enter(now, BindState::Stopped);
        }
        tokio::select! {
            biased;
            () = self.shutdown.cancelled() => false,
            wish = self.wishes.wait_for(|wish| wish.up) => wish.is_ok(),
        }
    }

    /// Connects, binds, and carries requests until the bind is over.
    async fn attempt(&mut self) -> Down {
        self.plate.enter(self.clock.now(), BindState::Connecting);
        let credentials = match credentials(&self.config).await {
            Ok(credentials) => credentials,
            Err(error) => return Down { why: Why::Credentials(error), stood: None },
        };
        let dialled = tokio::select! {
            biased;
            () = self.shutdown.cancelled() => return Down { why: Why::End(End::Asked), stood: None },
            dialled = self.dial.dial() => dialled,
        };
        let connection = match dialled {
            Ok(connection) => connection,
            Err(error) => return Down { why: Why::Dial(error), stood: None },
        };
        self.plate.update(|status| status.remote = connection.remote);
        self.plate.enter(self.clock.now(), BindState::Binding);
        let drive = Drive::new(self, connection, &credentials);
        // From here on the bind that waits to be written is all that knows the password.
        drop(credentials);
        let Outcome { end, bound_at } = drive.run().await;
        if bound_at.is_some() && !self.events.is_closed() {
            tokio::select! {
                biased;
                () = self.shared.settled() => {}
                () = self.shutdown.cancelled() => {}
            }
        }
        self.plate.update(|status| (status.remote, status.window_used) = (None, 0));
        Down { why: Why::End(end), stood: bound_at.map(|at| self.clock.now().since(at)) }
    }

    /// Waits as long as `down` asks for, or until something is wished for.
    async fn wait(&mut self, down: Down) {
        if matches!(down.why, Why::End(End::Asked)) {
            return;
        }
        let now = self.clock.now();
        let delay = self.backoff.after(down.why.cause(), down.stood);
        self.report(now, &down.why, delay);
        let until = now + delay;
        self.plate.enter(now, BindState::Waiting { until });
        tokio::select! {
            biased;
            () = self.shutdown.cancelled() => {}
            _ = self.wishes.changed() => {}
            () = sleep_until(self.clock.instant(until)) => {}
        }
    }

    fn report(&self, now: Time, why: &Why, delay: Duration) {
        let alarm = why.is_alarming();
        self.plate.update(|status| {
            status.last_error = Some((now, why.to_string()));
            status.alarm = alarm;
        });
        let BindId { carrier, index } = &self.bind;
        let again_in = Span(Duration::from_millis(u64::try_from(delay.as_millis()).unwrap_or(0)));
        if alarm {
            tracing::error!(%carrier, bind = index, %why, %again_in, "no bind: needs attention");
        } else {
            tracing::warn!(%carrier, bind = index, %why, %again_in, "no bind");
        }
    }

    /// Our number for the next request of the SMSC's.
    const fn next_delivery(&mut self) -> u32 {
        self.deliveries = self.deliveries.wrapping_add(1);
        self.deliveries
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.board.take_down(&self.bind, &self.plate);
    }
}

/// That there is no bind.
struct Down {
    why: Why,
    /// How long there was one.
    stood: Option<Duration>,
}

/// Why there is no bind.
#[derive(Debug, thiserror::Error)]
enum Why {
    #[error(transparent)]
    Credentials(CredentialsFault),
    #[error(transparent)]
    Dial(DialError),
    #[error("{0}")]
    End(End),
}

impl Why {
    const fn cause(&self) -> Cause {
        match self {
            Self::Credentials(_) => Cause::Refused(Refusal::Other),
            Self::End(End::BindRefused(status)) => Cause::Refused(Refusal::of(*status)),
            Self::Dial(_) | Self::End(_) => Cause::Lost,
        }
    }

    const fn is_alarming(&self) -> bool {
        match self.cause() {
            Cause::Refused(refusal) => refusal.is_alarming(),
            // These do not mend themselves either.
            Cause::Lost => matches!(
                self,
                Self::Dial(DialError::Tls(_) | DialError::Source(_))
                    | Self::End(End::WrongBind(_) | End::StreamLost { .. })
            ),
        }
    }
}

/// Why there are no credentials.
#[derive(Debug, thiserror::Error)]
enum CredentialsFault {
    #[error("password_file {}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Missing(#[from] NoCredentials),
    #[error(transparent)]
    Unusable(#[from] CredentialsError),
}

/// What to bind with, as it stands now.
async fn credentials(config: &Config) -> Result<Credentials, CredentialsFault> {
    let password = match config.password_path()? {
        Some(path) => {
            let read = password(&path).await;
            read.map_err(|source| CredentialsFault::File { path, source })?
        }
        None => SecretString::default(),
    };
    Ok(Credentials::new(&config.system_id, password.expose_secret())?)
}

async fn password(path: &Path) -> io::Result<SecretString> {
    // With all its room from the start, it leaves no copies behind as it grows.
    let mut text = String::with_capacity(LONGEST_PASSWORD_FILE);
    let file = tokio::fs::File::open(path).await?;
    file.take(LONGEST_PASSWORD_FILE as u64).read_to_string(&mut text).await?;
    let text = SecretString::from(text);
    Ok(text.expose_secret().trim_end_matches(['\r', '\n']).into())
}

/// Far more octets than any password has.
const LONGEST_PASSWORD_FILE: usize = 4_096;
