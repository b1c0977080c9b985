//! Load: tools that measure what a node can do, and a model that says how many nodes a site needs.
//!
//! `bench queue|pipeline|end-to-end|step|compare` measure; [`simulate`] calculates, with the very machine by which the
//! workers of the product scale; [`demo`] is what the API may start. Not here: `benches/`, which are for developers.

pub(super) mod bench;
pub(super) mod cli;
mod compare;
pub(super) mod demo;
mod dice;
mod figures;
mod mail;
mod model;
mod picture;
mod pipeline;
mod queue;
mod shape;
pub(super) mod simulate;
mod step;
mod target;
mod validate;
mod wire;

pub(super) use target::Refused;
