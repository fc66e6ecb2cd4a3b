//! SMPP octets and the values they stand for.
