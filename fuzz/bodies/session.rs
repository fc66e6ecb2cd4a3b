//! The body of the fuzz target `session`.

use std::time::Duration;

use bytes::BytesMut;
use hikyaku::pdu::Frame;
use hikyaku::pdu::Frames;
use hikyaku::session::Event;
use hikyaku::session::Session;
use hikyaku::session::SmscConfig;
use hikyaku::time::Time;
use tokio_util::codec::Decoder;

const T0: Time = Time::from_secs(1_800_000_000);

/// A session takes any octets in any pieces: it ends at most once, and answers no answer.
pub(crate) fn run(octets: &[u8]) {
    let Some((step, stream)) = octets.split_first() else { return };
    let mut session = Session::smsc(T0, &SmscConfig::default());
    let (mut frames, mut input) = (Frames::default(), BytesMut::new());
    let mut now = T0;
    let mut ended = 0;
    for piece in stream.chunks(usize::from(*step).max(1)) {
        now += Duration::from_millis(u64::from(*step) * 100);
        input.extend_from_slice(piece);
        loop {
            match frames.decode(&mut input) {
                Ok(Some(frame)) => {
                    let response = matches!(&frame, Frame::Pdu(pdu) if !pdu.body.is_request());
                    session.handle_frame(now, frame);
                    let answers = std::iter::from_fn(|| session.poll_transmit())
                        .filter(|pdu| !pdu.body.is_request())
                        .count();
                    assert!(!response || answers == 0, "an answer was answered");
                }
                Ok(None) => break,
                Err(error) => {
                    session.handle_frame_error(&error);
                    break;
                }
            }
        }
        session.handle_partial(now, !input.is_empty());
        if session.poll_timeout().is_some_and(|at| at <= now) {
            session.handle_timeout(now);
        }
        while let Some(event) = session.poll_event() {
            match event {
                Event::BindRequested { .. } => session.accept_bind(),
                Event::Closed { .. } => ended += 1,
                _ => {}
            }
        }
        while session.poll_transmit().is_some() {}
        assert!(ended <= 1, "it ended twice");
        if ended == 1 {
            return;
        }
    }
}
