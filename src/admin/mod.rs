//! HTTP API, health, metrics.

mod config;

pub use config::Config;
