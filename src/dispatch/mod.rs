//! The life of all live messages: events in, effects out.

mod event;
mod pace;
mod shares;
mod throttle;

pub use self::event::BindId;
pub use self::event::Effect;
pub use self::event::Event;
pub use self::event::Notice;
pub use self::event::Reply;
pub use self::event::Ticket;
pub use self::event::Token;
