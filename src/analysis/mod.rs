//! From message and facts to named evidence.
//!
//! Pure: no sockets, no files, no clock. May import `mail` and `content`. A detector takes a [`Input`] and nothing else, and
//! says nothing about what it cannot know. Not here: what evidence is worth (`policy`, `policies/weights.toml`), asking the
//! outside (`enrichment`), the text classifier (later).

mod answers;
mod brands;
mod campaign;
mod depth;
mod detectors;
mod facts;
mod history;
mod hosts;
mod names;
mod services;
mod signal;
mod site;
mod view;
mod words;

pub use answers::Answers;
pub use campaign::{BANDS, Campaign, CampaignConfig, Likeness, MAX_DISTANCE};
pub use detectors::{analyse, look, with_services};
pub use facts::{
    Arc, ArcResult, DkimResult, DkimSignature, Dmarc, DmarcPolicy, DmarcResult, Fact, Facts, Spf, SpfResult, Why,
};
pub use history::{Contact, History, HistoryKeys, Membership, Prevalence, Profile};
pub use hosts::leads_on;
pub use services::{
    BlockLists, DomainAge, FollowedLink, LinkEnd, Listing, ListingOf, ServiceFacts, TextReading, UrlReading, UrlVerdict,
};
pub use signal::{Code, Group, Signal};
pub use site::{Input, Site, Vip};
