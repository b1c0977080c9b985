//! What ends a milter session.

use super::Stage;

/// A peer that does not speak the protocol. The session is over: nothing more is read from it or said to it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A frame of length 0, which has not even a command.
    #[error("a frame without a command")]
    FrameEmpty,
    /// A frame longer than `frame_bytes`; also what a peer of another protocol looks like.
    #[error("a frame of {bytes} bytes, {limit} is the most")]
    FrameTooLong {
        /// Length the peer announced.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// A command that cannot come now.
    #[error("command {} cannot come at stage {stage:?}", char::from(*command).escape_default())]
    OutOfOrder {
        /// The command byte.
        command: u8,
        /// Where the session stands.
        stage: Stage,
    },
    /// A command whose data is not what the protocol says.
    #[error("data of command {} is malformed: {what}", char::from(*command).escape_default())]
    Malformed {
        /// The command byte.
        command: u8,
        /// What is missing or wrong.
        what: &'static str,
    },
    /// A protocol version that is not spoken here.
    #[error("milter protocol version {0}, 2 to 6 are spoken")]
    Version(u32),
}

impl Error {
    /// A word for metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::FrameEmpty => "frame_empty",
            Self::FrameTooLong { .. } => "frame_too_long",
            Self::OutOfOrder { .. } => "out_of_order",
            Self::Malformed { .. } => "malformed",
            Self::Version(_) => "version",
        }
    }
}
