//! The network between the gateway and a carrier, which can be cut, delayed, stalled and starved.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::net::tcp::ReadHalf;
use tokio::net::tcp::WriteHalf;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::sleep;

/// A way to a carrier.
#[derive(Debug)]
pub(super) struct Proxy {
    pub(super) port: u16,
    manner: watch::Sender<Manner>,
}

/// How the network is at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Manner {
    /// Whether connections are taken.
    is_open: bool,
    /// Whether octets to the carrier wait.
    stalls_there: bool,
    /// Whether octets from the carrier wait.
    stalls_back: bool,
    delay: Duration,
    /// The most octets that travel together.
    piece: usize,
    /// Whether what is cut is reset rather than closed.
    is_abrupt: bool,
    /// Counts the cuts.
    cuts: u64,
}

const CALM: Manner = Manner {
    is_open: true,
    stalls_there: false,
    stalls_back: false,
    delay: Duration::ZERO,
    piece: usize::MAX,
    is_abrupt: false,
    cuts: 0,
};

#[derive(Clone, Copy)]
enum Way {
    There,
    Back,
}

impl Proxy {
    /// A way to the carrier that listens on `carrier`.
    pub(super) fn open(on: &Handle, carrier: u16) -> Self {
        let listen = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)));
        let listener = on.block_on(listen).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (manner, watched) = watch::channel(CALM);
        on.spawn(async move {
            loop {
                let (near, _) = listener.accept().await.unwrap();
                tokio::spawn(carry(near, carrier, watched.clone()));
            }
        });
        Self { port, manner }
    }

    /// Cuts every connection.
    pub(super) fn cut(&self, is_abrupt: bool) {
        self.manner.send_modify(|manner| {
            manner.cuts += 1;
            manner.is_abrupt = is_abrupt;
        });
    }

    /// Cuts every connection and takes no new one.
    pub(super) fn close(&self) {
        self.cut(true);
        self.manner.send_modify(|manner| manner.is_open = false);
    }

    /// Takes what goes this way and brings it nowhere until [`Self::calm`].
    pub(super) fn stall(&self, there: bool, back: bool) {
        self.manner.send_modify(|manner| (manner.stalls_there, manner.stalls_back) = (there, back));
    }

    pub(super) fn delay(&self, delay: Duration) {
        self.manner.send_modify(|manner| manner.delay = delay);
    }

    /// Lets only so many octets travel together.
    pub(super) fn trickle(&self, piece: usize) {
        self.manner.send_modify(|manner| manner.piece = piece);
    }

    /// All is well again.
    pub(super) fn calm(&self) {
        self.manner.send_modify(|manner| *manner = Manner { cuts: manner.cuts, ..CALM });
    }
}

/// Carries octets both ways until either side closes or the connection is cut.
async fn carry(mut near: TcpStream, carrier: u16, mut manner: watch::Receiver<Manner>) {
    let Manner { is_open, cuts, .. } = *manner.borrow();
    let Ok(mut far) = TcpStream::connect(("127.0.0.1", carrier)).await else { return };
    if !is_open || near.set_nodelay(true).is_err() || far.set_nodelay(true).is_err() {
        return;
    }
    {
        let (near_in, near_out) = near.split();
        let (far_in, far_out) = far.split();
        // However it ends, both connections go.
        tokio::select! {
            _ended = pump(Way::There, near_in, far_out, manner.clone()) => return,
            _ended = pump(Way::Back, far_in, near_out, manner.clone()) => return,
            _cut = manner.wait_for(|manner| manner.cuts > cuts) => {}
        }
    }
    if manner.borrow().is_abrupt {
        let _gone = (near.set_zero_linger(), far.set_zero_linger());
    }
}

async fn pump(
    way: Way,
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut manner: watch::Receiver<Manner>,
) -> io::Result<()> {
    let mut octets = vec![0; 16 << 10];
    loop {
        let count = from.read(&mut octets).await?;
        if count == 0 {
            return Ok(());
        }
        let mut rest = &octets[..count];
        while !rest.is_empty() {
            let now = manner.wait_for(|manner| match way {
                Way::There => !manner.stalls_there,
                Way::Back => !manner.stalls_back,
            });
            let Manner { delay, piece, .. } = *now.await.map_err(io::Error::other)?;
            if !delay.is_zero() {
                sleep(delay).await;
            }
            let (piece, behind) = rest.split_at(piece.min(rest.len()));
            to.write_all(piece).await?;
            rest = behind;
            if !rest.is_empty() {
                sleep(Duration::from_millis(1)).await;
            }
        }
    }
}
