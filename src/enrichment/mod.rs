//! Facts from outside: what DNS says about the sender, what services find.
//!
//! May import `observe`, `mail`, `content`, `analysis` and `egress`. Every question has a deadline; what could not be asked is an
//! [`Unknown`](crate::analysis::Fact::Unknown), never a failure. Not here: what a fact is worth (`analysis`, `policy`), what is
//! done when a service is down (`pipeline`; the operator's choice is told by [`Services::on_failure`]).

mod block_lists;
mod cache;
mod check;
mod clamd;
mod config;
mod functions;
mod metrics;
mod ocr;
mod opening;
mod rdap;
mod redaction;
mod redirects;
mod sender_auth;
mod services;
mod shelf;
mod tags;
mod text_service;
mod tiers;
mod url_service;

pub use config::{
    BlockListsConfig, CacheConfig, ClamdConfig, Config, FunctionsConfig, OcrConfig, OnFailure, PersonalLinks,
    RdapConfig, RedirectsConfig, SenderAuthConfig, ServiceConfig, TextDialect, TextServiceConfig, UrlServiceConfig,
    ZoneConfig, ZoneOf,
};
pub use functions::{FunctionAsk, FunctionNeed};
pub use metrics::Metrics;
pub use opening::Untouchable;
pub use sender_auth::{ResolverError, SenderAuth, authentication_results, forged_results};
pub use services::{Outside, Question, ServiceError, ServiceLook, Services};
pub use shelf::{Look, News, Shelf, Shelved, Stamp};
pub use tags::{Tag, TagError};
