//! From a message to the decision: the transaction for the pipeline, its answer in the words of the machine.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::mail::{Connection, MessageId};
use crate::pipeline::{Abilities, Answer, Refusal, Transaction};
use crate::protocol::milter::{Agreement, Decision, Message, Refuse};

/// The message as the pipeline wants it, with a new id.
pub(super) fn transaction(
    message: Message,
    agreement: Agreement,
    correlation: &str,
) -> Result<Transaction, getrandom::Error> {
    let received = SystemTime::now();
    let mut chance = [0; 10];
    getrandom::fill(&mut chance)?;
    // Before 1970 or after 10889 the clock is wrong; the id is unique all the same.
    let millis = received.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    Ok(Transaction {
        id: MessageId::new(millis, chance),
        connection: Connection { correlation: Some(correlation.to_owned()), ..message.connection }.into(),
        envelope: message.envelope,
        raw: message.raw.into(),
        received,
        abilities: Abilities {
            edit_headers: agreement.edits_headers(),
            drop_recipients: agreement.drops_recipients(),
            hold_at_mta: agreement.quarantines(),
        },
    })
}

/// What the sender is told when no verdict came: later, with the id to ask for.
pub(super) fn missing(id: MessageId) -> Answer {
    Answer::Defer(Refusal { code: 451, enhanced: [4, 7, 1], text: format!("Please try again later ({id})") })
}

/// The answer as a decision of the machine.
pub(super) fn decision(answer: &Answer) -> Decision<'_> {
    match answer {
        Answer::Deliver { edits, held } => Decision::Deliver { edits, without: held },
        Answer::Hold => Decision::Discard,
        Answer::HoldAtMta { reason, edits } => Decision::Quarantine { reason, edits },
        Answer::Reject(refusal) => Decision::Refuse(refuse(refusal, 5)),
        Answer::Defer(refusal) => Decision::Refuse(refuse(refusal, 4)),
    }
}

/// A rejection is a 5xx and a deferral a 4xx, whatever the code says: the one is for good, the other is not.
fn refuse(refusal: &Refusal, class: u16) -> Refuse<'_> {
    let code = match refusal.code {
        code if code / 100 == class => code,
        _ if class == 5 => 550,
        _ => 451,
    };
    Refuse { code, enhanced: refusal.enhanced, text: &refusal.text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_class_is_the_answers() {
        let refusal = |code| Refusal { code, enhanced: [4, 7, 1], text: "x".into() };
        let cases = [
            (Answer::Reject(refusal(554)), 554),
            (Answer::Reject(refusal(451)), 550),
            (Answer::Defer(refusal(450)), 450),
            (Answer::Defer(refusal(550)), 451),
            (Answer::Defer(refusal(0)), 451),
        ];
        for (answer, expected) in cases {
            let Decision::Refuse(refuse) = decision(&answer) else { panic!("{answer:?}") };
            assert_eq!(refuse.code, expected, "{answer:?}");
        }
    }
}
