//! The integration tests: one binary, one module a subject. Data is in `tests/cases` and `tests/conversations`.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

// Not every test needs all of it.
#[allow(dead_code)]
#[path = "../support/mod.rs"]
mod support;

mod admin;
mod alerts;
mod alerts_outages;
mod alerts_reload;
mod architecture;
mod archives;
mod bodies;
mod caches;
mod callers;
mod campaigns;
mod cases;
mod configuration;
mod content;
mod content_depth;
mod dashboards;
mod egress;
mod end_to_end;
mod fault_table;
mod history;
mod kill;
mod load;
mod message;
mod metrics;
mod milter_conversation;
mod milter_driver;
mod mql;
mod observe;
mod outages;
mod plans;
mod postfix_milter;
mod postfix_relay;
mod queue;
mod queue_kills;
mod reassess;
mod records;
mod redirects;
mod relay;
mod releases;
mod rules;
mod rules_commands;
mod sender_auth;
mod services;
mod services_gateway;
mod services_reload;
mod signing;
mod smtp_conversation;
mod smtp_machines;
mod smuggling;
mod watch;
mod yara;
