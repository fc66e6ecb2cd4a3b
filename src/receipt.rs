//! A `deliver_sm` read as a delivery receipt, and the forms of its id.
