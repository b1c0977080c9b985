//! A change to a message, as a value: made by the pipeline, carried out by each door in its own way.
//!
//! Only headers change. The body is never rewritten: a signature over it must stay good.

use serde::{Deserialize, Serialize};

/// One change to the header of a message. Values hold no CR; a line break inside a value is LF and white space.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Edit {
    /// A new header field on top of all others.
    Prepend {
        /// Field name, without colon.
        name: String,
        /// Field value, without the space after the colon.
        value: String,
    },
    /// Replaces the value of an existing field.
    Replace {
        /// Field name, compared without regard to case.
        name: String,
        /// Which of the fields of this name, from the top, the first is 1.
        occurrence: u32,
        /// The new value, without the space after the colon.
        value: String,
    },
    /// Takes a field out.
    Remove {
        /// Field name, compared without regard to case.
        name: String,
        /// Which of the fields of this name, from the top, the first is 1; counted before any edit is carried out.
        occurrence: u32,
    },
}
