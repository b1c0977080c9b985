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
use super::{Input, Signal, depth};

/// All of them, in the order of the catalogue.
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
    services::detect,
    trust::detect,
];

/// Looks at a message from all sides. Attachments are opened here, when there are any.
pub fn analyse(input: &Input<'_>) -> Vec<Signal> {
    let (files, depth) = depth::look(input);
    let view = View::new(input, files, &depth);
    let mut signals = Signals::default();
    for detect in DETECTORS {
        detect(&view, &mut signals);
    }
    signals.into_vec()
}
