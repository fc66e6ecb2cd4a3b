//! The front doors: HTTP.
