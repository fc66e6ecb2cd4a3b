//! Characters, and the octets and segments that carry them.
