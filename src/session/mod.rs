//! One bind as a state machine, in the role of ESME or SMSC.
