//! Webhooks and the event feed.
