//! Option negotiation: what the MTA offers, what of it is taken.
//!
//! Both masks in the reply are subsets of the offer, and of what the version knows: Postfix treats an action that it did not
//! offer as a broken filter, Sendmail does so with a protocol bit. Asked for are: no reply wherever none is needed (worth more
//! CPU than anything else here), no event that is not looked at, leading space of header values (DKIM needs it), and the macros.

use super::Error;
use super::command::smfic::OPTNEG;
use super::frame::write_frame;

/// `SMFIF_*`: what a filter may do to a message.
pub(super) mod action {
    /// `SMFIF_ADDHDRS`: add and insert header fields.
    pub(in super::super) const ADDHDRS: u32 = 0x01;
    /// `SMFIF_DELRCPT`: delete recipients.
    pub(in super::super) const DELRCPT: u32 = 0x08;
    /// `SMFIF_CHGHDRS`: change and delete header fields.
    pub(in super::super) const CHGHDRS: u32 = 0x10;
    /// `SMFIF_QUARANTINE`: hold the message.
    pub(in super::super) const QUARANTINE: u32 = 0x20;
    /// `SMFIF_SETSYMLIST`: name the macros wanted (version 6).
    pub(in super::super) const SETSYMLIST: u32 = 0x100;
}

/// `SMFIP_*`: events not to be sent (NO), not to be answered (NR), and other agreements.
pub(super) mod protocol {
    /// `SMFIP_NOEOH`: the end of the header need not be told; the first body chunk or the end of the message tells it.
    pub(in super::super) const NOEOH: u32 = 0x40;
    /// `SMFIP_NR_HDR`: no reply to header fields.
    pub(in super::super) const NR_HDR: u32 = 0x80;
    /// `SMFIP_NOUNKNOWN`: unknown SMTP commands need not be told (version 3).
    pub(in super::super) const NOUNKNOWN: u32 = 0x100;
    /// `SMFIP_NODATA`: DATA need not be told (version 4).
    pub(in super::super) const NODATA: u32 = 0x200;
    /// `SMFIP_SKIP`: the filter may say SKIP.
    pub(in super::super) const SKIP: u32 = 0x400;
    /// `SMFIP_NR_CONN`: no reply to CONNECT.
    pub(in super::super) const NR_CONN: u32 = 0x1000;
    /// `SMFIP_NR_HELO`: no reply to HELO.
    pub(in super::super) const NR_HELO: u32 = 0x2000;
    /// `SMFIP_NR_MAIL`: no reply to MAIL.
    pub(in super::super) const NR_MAIL: u32 = 0x4000;
    /// `SMFIP_NR_RCPT`: no reply to RCPT.
    pub(in super::super) const NR_RCPT: u32 = 0x8000;
    /// `SMFIP_NR_DATA`: no reply to DATA.
    pub(in super::super) const NR_DATA: u32 = 0x1_0000;
    /// `SMFIP_NR_UNKN`: no reply to unknown SMTP commands.
    pub(in super::super) const NR_UNKN: u32 = 0x2_0000;
    /// `SMFIP_NR_EOH`: no reply to the end of the header.
    pub(in super::super) const NR_EOH: u32 = 0x4_0000;
    /// `SMFIP_NR_BODY`: no reply to body chunks.
    pub(in super::super) const NR_BODY: u32 = 0x8_0000;
    /// `SMFIP_HDR_LEADSPC`: header values with the white space that follows the colon.
    pub(in super::super) const HDR_LEADSPC: u32 = 0x10_0000;
    /// `SMFIP_MDS_256K`: data of up to 256 KiB − 1 in a frame (Sendmail).
    pub(in super::super) const MDS_256K: u32 = 0x1000_0000;
    /// `SMFIP_MDS_1M`: data of up to 1 MiB − 1 in a frame (Sendmail).
    pub(in super::super) const MDS_1M: u32 = 0x2000_0000;
}

const WANTED_ACTIONS: u32 =
    action::ADDHDRS | action::DELRCPT | action::CHGHDRS | action::QUARANTINE | action::SETSYMLIST;

const WANTED_PROTOCOL: u32 = protocol::NOEOH
    | protocol::NOUNKNOWN
    | protocol::NODATA
    | protocol::SKIP
    | protocol::NR_CONN
    | protocol::NR_HELO
    | protocol::NR_MAIL
    | protocol::NR_RCPT
    | protocol::NR_DATA
    | protocol::NR_UNKN
    | protocol::NR_HDR
    | protocol::NR_EOH
    | protocol::NR_BODY
    | protocol::HDR_LEADSPC;

/// The macros wanted, by the stage numbers of `SMFIR_SETSYMLIST` (CONNECT 0, HELO 1, MAIL 2, RCPT 3, DATA 4, EOM 5, EOH 6).
///
/// Postfix sends the EOH list with every header field, so that one stays empty; it has no queue id before the first RCPT.
const MACROS: [(u32, &str); 7] = [
    (0, "j _ {daemon_name} {daemon_addr} {daemon_port} {client_addr} {client_port} {client_ptr} {client_resolve} v"),
    (1, "{tls_version} {cipher} {cipher_bits} {cert_subject}"),
    (2, "i {auth_authen} {auth_type} {mail_addr} {tls_version} {cipher}"),
    (3, "{rcpt_mailer}"),
    (4, "i"),
    (5, "i"),
    (6, ""),
];

/// What the MTA offers (`SMFIC_OPTNEG`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offer {
    /// Protocol version.
    pub version: u32,
    /// `SMFIF_*` bits: what it lets filters do.
    pub actions: u32,
    /// `SMFIP_*` bits: what it can leave out, and other abilities.
    pub protocol: u32,
}

impl Offer {
    /// Reads the data of `SMFIC_OPTNEG`: three 32-bit numbers; more may follow and is passed over.
    pub(super) fn parse(data: &[u8]) -> Result<Self, Error> {
        let number = |place: usize| {
            data.get(4 * place..4 * place + 4)
                .and_then(|b| b.try_into().ok())
                .map(u32::from_be_bytes)
                .ok_or(Error::Malformed { command: OPTNEG, what: "shorter than version, actions and protocol" })
        };
        Ok(Self { version: number(0)?, actions: number(1)?, protocol: number(2)? })
    }
}

/// What both sides go by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agreement {
    /// Protocol version, 2 to 6.
    pub version: u32,
    /// `SMFIF_*` bits: what this filter may do.
    pub actions: u32,
    /// `SMFIP_*` bits: what is left out, what is not answered.
    pub protocol: u32,
}

impl Agreement {
    /// Takes of an offer what is wanted. `frame_bytes` decides about Sendmail's large body chunks.
    pub(super) fn of(offer: Offer, frame_bytes: usize) -> Result<Self, Error> {
        if offer.version < 2 {
            return Err(Error::Version(offer.version));
        }
        let version = offer.version.min(6);
        let (known_actions, known_protocol) = match version {
            2 => (0x3f, 0x7f),
            3 => (0x3f, 0x17f),
            4 | 5 => (0x3f, 0x37f),
            _ => (0x1ff, u32::MAX),
        };
        let chunks = match offer.protocol {
            bits if bits & protocol::MDS_1M != 0 && frame_bytes >= 1 << 20 => protocol::MDS_1M,
            bits if bits & protocol::MDS_256K != 0 && frame_bytes >= 256 << 10 => protocol::MDS_256K,
            _ => 0,
        };
        Ok(Self {
            version,
            actions: WANTED_ACTIONS & offer.actions & known_actions,
            protocol: (WANTED_PROTOCOL | chunks) & offer.protocol & known_protocol,
        })
    }

    /// Appends the filter's `SMFIC_OPTNEG`, with the lists of macros when the MTA takes them.
    pub(super) fn write(self, out: &mut Vec<u8>) {
        let mut data = Vec::with_capacity(if self.can(action::SETSYMLIST) { 384 } else { 12 });
        for number in [self.version, self.actions, self.protocol] {
            data.extend_from_slice(&number.to_be_bytes());
        }
        if self.can(action::SETSYMLIST) {
            for (stage, names) in MACROS {
                data.extend_from_slice(&stage.to_be_bytes());
                data.extend_from_slice(names.as_bytes());
                data.push(0);
            }
        }
        write_frame(out, OPTNEG, &[&data]);
    }

    /// Whether all of these `SMFIF_*` bits were agreed on.
    pub(super) fn can(self, actions: u32) -> bool {
        self.actions & actions == actions
    }

    /// Whether this `SMFIP_*` bit was agreed on.
    pub(super) fn has(self, protocol: u32) -> bool {
        self.protocol & protocol != 0
    }

    /// Whether header fields can be inserted, changed and deleted.
    pub fn edits_headers(self) -> bool {
        self.can(action::ADDHDRS | action::CHGHDRS)
    }

    /// Whether single recipients can be taken out.
    pub fn drops_recipients(self) -> bool {
        self.can(action::DELRCPT)
    }

    /// Whether the MTA has a hold queue for us.
    pub fn quarantines(self) -> bool {
        self.can(action::QUARANTINE)
    }

    /// Whether header values keep the white space after the colon.
    pub fn keeps_leading_space(self) -> bool {
        self.has(protocol::HDR_LEADSPC)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_subsets_of_the_offer() {
        let all = u32::MAX;
        let cases = [
            // version, actions, protocol → version, actions, protocol
            ((6, 0x1ff, 0x1f_ffff), (6, 0x139, 0x1f_f7c0)),
            ((2, 0x3f, 0x7f), (2, 0x39, 0x40)),
            ((2, all, all), (2, 0x39, 0x40)),
            ((3, all, all), (3, 0x39, 0x140)),
            ((4, all, all), (4, 0x39, 0x340)),
            ((6, 0, 0), (6, 0, 0)),
            ((6, 0x1, 0x10_0000), (6, 0x1, 0x10_0000)),
            ((7, all, all), (6, 0x139, 0x201f_f7c0)),
            ((6, 0x1ff, 0x101f_ffff), (6, 0x139, 0x101f_f7c0)),
        ];
        for (offer, expected) in cases {
            let offer = Offer { version: offer.0, actions: offer.1, protocol: offer.2 };
            let got = Agreement::of(offer, 1 << 20).unwrap();
            assert_eq!((got.version, got.actions, got.protocol), expected, "{offer:x?} gave {got:x?}");
        }
        for version in [0, 1] {
            assert_eq!(Agreement::of(Offer { version, actions: 0, protocol: 0 }, 0), Err(Error::Version(version)));
        }
    }

    #[test]
    fn large_chunks_only_if_a_frame_may_be_so_long() {
        let offer = Offer { version: 6, actions: 0, protocol: protocol::MDS_1M | protocol::MDS_256K };
        for (frame_bytes, expected) in [(1 << 20, protocol::MDS_1M), (1 << 19, protocol::MDS_256K), (128 << 10, 0)] {
            assert_eq!(Agreement::of(offer, frame_bytes).unwrap().protocol, expected, "{frame_bytes}");
        }
    }
}
