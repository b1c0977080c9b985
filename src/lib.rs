//! Mailweir stands in the mail stream: it judges every message before the sender is answered.
//!
//! The rooms, in the order in which a message meets them (`DESIGN` in the README, "How a message travels"):
//!
//! | room | what happens there |
//! | --- | --- |
//! | [`observe`] | kinds of events, correlation ids, categories of failures: for all that do something |
//! | [`gateway`] | sockets: milter, SMTP relay; the next hop |
//! | [`protocol`] | the machines without sockets: bytes and `now` in, events and bytes out |
//! | [`mail`] | envelope, headers, parts, links, addresses: parsed once, borrowed everywhere |
//! | [`content`] | what is inside attachments, bounded |
//! | [`egress`] | the only way out to third parties: deadline, breaker, rate limit, fence |
//! | [`enrichment`] | facts from outside: SPF, DKIM, DMARC, ARC |
//! | [`analysis`] | detectors: message and facts in, named evidence out |
//! | [`policy`] | evidence → risk → verdict, per tenant and recipient |
//! | [`deferred`] | work after the reply: job queue, workers |
//! | [`pipeline`] | the path of one message under one deadline |
//! | [`records`] | what is remembered: ledger, quarantine, bodies |
//! | [`enforcement`] | what is done after the reply: release, alerts, signed requests |
//! | [`admin`] | HTTP API, health, metrics |
//! | [`app`] | configuration, wiring, commands; imports all, imported by none |
//!
//! `tests/it/architecture.rs` holds the code to this table.

pub mod observe;

pub mod gateway;
pub mod protocol;

pub mod mail;

pub mod content;

pub mod egress;

pub mod enrichment;

pub mod analysis;

pub mod policy;

pub mod deferred;

pub mod pipeline;

pub mod records;

pub mod enforcement;

pub mod admin;

pub mod app;
