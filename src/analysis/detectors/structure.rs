//! Double meanings of the message's structure, from the findings of the parser.

use crate::analysis::Code;
use crate::analysis::signal::Signals;
use crate::analysis::view::View;
use crate::mail::FindingKind as Kind;

/// What each finding is evidence of, and how strongly; `None`: careless software does it every day.
fn weigh(kind: Kind) -> Option<(Code, f32)> {
    Some(match kind {
        Kind::SeveralBoundaries | Kind::SeveralContentTypes | Kind::SeveralEncodings => (Code::AmbiguousStructure, 1.0),
        Kind::PartAfterClose | Kind::ConflictingFileNames | Kind::RepeatedField | Kind::BareCr => {
            (Code::AmbiguousStructure, 0.6)
        }
        Kind::EncodedMultipart | Kind::MissingBoundary | Kind::UnknownEncoding | Kind::OddDelimiter | Kind::NulByte => {
            (Code::AmbiguousStructure, 0.4)
        }
        Kind::SpaceBeforeColon | Kind::HeaderWithoutColon | Kind::RepeatedParameter => (Code::AmbiguousStructure, 0.3),
        Kind::SeveralFrom => (Code::SeveralSenders, 1.0),
        Kind::SeveralFromMailboxes => (Code::SeveralSenders, 0.5),
        Kind::NoFrom | Kind::FromWithoutAddress => (Code::SenderInvalid, 1.0),
        Kind::FromGroup => (Code::SenderInvalid, 0.6),
        Kind::EncodedAddress | Kind::Utf7 => (Code::HidingEncoding, 1.0),
        Kind::BrokenEncodedWord => (Code::HidingEncoding, 0.2),
        Kind::TooManyParts
        | Kind::TooDeep
        | Kind::HeaderTooLong
        | Kind::TooManyHeaders
        | Kind::TooManyLinks
        | Kind::TooMuchDecoded
        | Kind::TooManyMailboxes => (Code::LimitMet, 1.0),
        Kind::TooMuchText => (Code::LimitMet, 0.3),
        Kind::UnclosedBoundary
        | Kind::BrokenBase64
        | Kind::BrokenQuotedPrintable
        | Kind::UnknownCharset
        | Kind::PreambleContent
        | Kind::EpilogueContent
        | Kind::EightBitHeader
        | Kind::ContinuedFileName => return None,
    })
}

pub(super) fn detect(view: &View<'_>, out: &mut Signals) {
    // `"Name", user@example.com`: the name is torn from its address, so that a reader shows the one and checks the other.
    let from = view.input.message.from();
    let name_only = from.iter().any(|m| m.address.is_none() && !m.display.is_empty());
    if name_only && from.iter().any(|m| m.address.is_some() && m.display.is_empty()) {
        out.add(Code::SenderInvalid, 1.0, "a name without an address beside an address without a name");
    }
    for finding in view.input.message.findings() {
        if let Some((code, strength)) = weigh(finding.kind) {
            out.add(code, strength, finding.kind.code());
        }
    }
}
