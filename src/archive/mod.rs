//! Finished messages and events, for people.
