//! What the tests stand on: servers to talk to, clients that talk.

pub mod admin;
pub mod clamd;
pub mod client;
pub mod dkim;
pub mod dns;
pub mod endpoint;
pub mod gateway;
pub mod http;
pub mod load;
pub mod milter;
pub mod mock_services;
pub mod next_hop;
pub mod observed;
pub mod outbox;
pub mod postfix;
pub mod postgres;
pub mod prometheus;
pub mod records;
pub mod redis;
pub mod relay;
pub mod s3;
pub mod sink;
pub mod smtp_client;
pub mod wire;
