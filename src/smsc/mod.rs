//! The simulated carrier.
