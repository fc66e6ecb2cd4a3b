//! The life of all live messages: events in, effects out.
