//! Which carrier first, which next, after what, how soon.
