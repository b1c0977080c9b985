//! The message and what travels with it, as values.
//!
//! Pure: no sockets, no files, no clock. Imports no other room; every other room may import this one.
//! Not here: what is inside attachments (`content`), what the outside says about the message (`enrichment`),
//! and any judgement (`analysis`, `policy`).

mod address;
mod attached;
mod authentication_results;
mod body;
mod body_link;
mod config;
mod connection;
mod decode;
mod defang;
mod dom;
mod domain;
mod draft;
mod edit;
mod encoded_word;
mod envelope;
mod finding;
mod header;
mod html;
mod id;
mod link;
mod mailbox;
mod message;
mod network;
mod parameters;
mod part;
mod quotation;
mod received;
mod rewrite;
mod structure;
mod style;
mod subject;
mod threads;
mod tokens;
mod url_finder;
mod url_parts;
mod xpath;

pub use address::{Address, registrable_domain};
pub use attached::Attached;
pub use authentication_results::{AuthenticationResults, MethodResult, SpfRecord};
pub use body::Body;
pub use body_link::BodyLink;
pub use config::MessageLimits;
pub use connection::{Connection, Door, TlsSession};
pub use defang::{clean, defang};
pub use dom::Dom;
pub use domain::DomainParts;
pub use edit::Edit;
pub use envelope::{Envelope, Path};
pub use finding::{Finding, FindingKind};
pub use header::Field;
pub use html::{Form, HtmlContent, inner_text};
pub use id::{InvalidMessageId, MessageId};
pub use link::{Link, LinkKind, named_host};
pub use mailbox::Mailbox;
pub use message::Message;
pub use network::{InvalidNetwork, Network};
pub use parameters::Parameters;
pub use part::{Encoding, Part, PartKind};
pub use quotation::QuotedHeader;
pub use received::{Hop, HopField, Received, Signature, hops, received_domains, received_ips};
pub use rewrite::{Unwrapped, unwrap_url};
pub use subject::SubjectParts;
pub use threads::{Banner, Thread, Threads};
pub use url_parts::{UrlHost, UrlParts};
pub use xpath::{XPath, XPathError, XPathNode, XPathResult, spells_by_number};
