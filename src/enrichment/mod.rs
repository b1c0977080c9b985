//! Facts from outside.
