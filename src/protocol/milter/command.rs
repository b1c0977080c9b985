//! The bytes of the protocol beside their official names (`libmilter/mfdef.h`), with the version that brought them.

/// `SMFIC_*`: what the MTA says.
pub(super) mod smfic {
    /// `SMFIC_OPTNEG`: option negotiation.
    pub(in super::super) const OPTNEG: u8 = b'O';
    /// `SMFIC_CONNECT`: host name NUL, family, port, address NUL.
    pub(in super::super) const CONNECT: u8 = b'C';
    /// `SMFIC_HELO`: name NUL. May repeat.
    pub(in super::super) const HELO: u8 = b'H';
    /// `SMFIC_MAIL`: address NUL, then parameters, each with its NUL.
    pub(in super::super) const MAIL: u8 = b'M';
    /// `SMFIC_RCPT`: as MAIL.
    pub(in super::super) const RCPT: u8 = b'R';
    /// `SMFIC_DATA`: the client said DATA (version 4).
    pub(in super::super) const DATA: u8 = b'T';
    /// `SMFIC_HEADER`: name NUL value NUL.
    pub(in super::super) const HEADER: u8 = b'L';
    /// `SMFIC_EOH`: end of the header.
    pub(in super::super) const EOH: u8 = b'N';
    /// `SMFIC_BODY`: a piece of the body, no NUL.
    pub(in super::super) const BODY: u8 = b'B';
    /// `SMFIC_BODYEOB`: end of the message; the last piece of the body may ride in it.
    pub(in super::super) const BODYEOB: u8 = b'E';
    /// `SMFIC_MACRO`: command byte, then name NUL value NUL, any number. Never answered.
    pub(in super::super) const MACRO: u8 = b'D';
    /// `SMFIC_ABORT`: forget the message, keep the connection. Never answered.
    pub(in super::super) const ABORT: u8 = b'A';
    /// `SMFIC_UNKNOWN`: an SMTP command the MTA does not know (version 3).
    pub(in super::super) const UNKNOWN: u8 = b'U';
    /// `SMFIC_QUIT`: the connection ends. Never answered.
    pub(in super::super) const QUIT: u8 = b'Q';
    /// `SMFIC_QUIT_NC`: forget everything, a new CONNECT follows (version 6). Never answered.
    pub(in super::super) const QUIT_NC: u8 = b'K';
}

/// `SMFIR_*`: what the filter says.
pub(super) mod smfir {
    /// `SMFIR_CONTINUE`: go on.
    pub(in super::super) const CONTINUE: u8 = b'c';
    /// `SMFIR_DISCARD`: tell the client 250 and throw the message away.
    pub(in super::super) const DISCARD: u8 = b'd';
    /// `SMFIR_SKIP`: no more events of this kind for this message (version 6).
    pub(in super::super) const SKIP: u8 = b's';
    /// `SMFIR_REPLYCODE`: refuse with this text.
    pub(in super::super) const REPLYCODE: u8 = b'y';
    /// `SMFIR_PROGRESS`: still at work, wait on.
    pub(in super::super) const PROGRESS: u8 = b'p';
    /// `SMFIR_QUARANTINE`: hold the message; the final reply must still follow.
    pub(in super::super) const QUARANTINE: u8 = b'q';
    /// `SMFIR_DELRCPT`: take a recipient out.
    pub(in super::super) const DELRCPT: u8 = b'-';
    /// `SMFIR_CHGHEADER`: replace or delete a header field.
    pub(in super::super) const CHGHEADER: u8 = b'm';
    /// `SMFIR_INSHEADER`: insert a header field at a place.
    pub(in super::super) const INSHEADER: u8 = b'i';
}
