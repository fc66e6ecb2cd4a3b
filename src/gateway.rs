//! Builds every part, spawns it, and drains it.
