//! Detectors: one file a subject. Each takes the view and adds signals; none knows of the others or of weights.

mod attachments;
mod authentication;
mod campaign;
mod identity;
mod infrastructure;
mod links;
mod lookalike;
mod markup;
mod reply_path;
mod services;
mod structure;
mod trust;
mod wording;

use super::signal::Signals;
use super::view::View;
use super::{Input, ServiceFacts, Signal, depth};

/// All that look at the message, in the order of the catalogue.
const DETECTORS: &[fn(&View<'_>, &mut Signals)] = &[
    identity::detect,
    reply_path::detect,
    authentication::detect,
    lookalike::detect,
    links::detect,
    markup::detect,
    attachments::detect,
    infrastructure::detect,
    structure::detect,
    wording::detect,
    campaign::detect,
    trust::detect,
];

/// Looks at a message from all sides. Attachments are opened here, when there are any.
pub fn analyse(input: &Input<'_>) -> Vec<Signal> {
    with_services(look(input), &input.facts.services)
}

/// What was seen, with what services found: they may be asked after the message was looked at.
pub fn with_services(seen: Vec<Signal>, found: &ServiceFacts) -> Vec<Signal> {
    let mut signals = Signals::from(seen);
    services::detect(found, &mut signals);
    signals.into_vec()
}

/// The same without what services found.
pub fn look(input: &Input<'_>) -> Vec<Signal> {
    let (files, depth) = depth::look(input);
    let view = View::new(input, files, &depth);
    let mut signals = Signals::default();
    for detect in DETECTORS {
        detect(&view, &mut signals);
    }
    signals.into_vec()
}
