//! The configuration as written, and what it means.
