//! Connections to carriers: a task for each bind that drives its session.
