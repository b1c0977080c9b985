//! The commands, one file each.

pub(super) mod alert;
pub(super) mod cache;
pub(super) mod config;
pub(super) mod dev;
pub(super) mod doctor;
pub(super) mod explain;
pub(super) mod keys;
pub(super) mod log;
pub(super) mod quarantine;
pub(super) mod queue;
pub(super) mod replay;
pub(super) mod rules;
pub(super) mod scan;
