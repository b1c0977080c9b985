//! The seam to a place where all gateways keep answers: bytes by key, and which tags were forgotten when.
//!
//! Whoever wires this room says what it is ([`Shelf`]; Redis, in practice). Every forgetting has a number, and an answer is
//! kept with the number that was the newest when it was *asked for* ([`Stamp`]): it is good as long as none of its tags was
//! forgotten under a higher one. So nothing is searched for and deleted, an answer that was under way while its tag was
//! forgotten is never good, and other gateways learn of it by asking what is new since the number they know. A shelf that lost
//! its memory begins a new epoch: numbers of another epoch say nothing.

use std::time::Duration;

use futures_util::future::BoxFuture;

use super::Tag;
use crate::egress::Failure;

/// A moment on a shelf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    /// The shelf's life; a new one when it lost its memory.
    pub epoch: String,
    /// The newest forgetting.
    pub number: u64,
}

/// What is there under a key.
#[derive(Debug, Clone)]
pub struct Look {
    /// The moment of the look; to be kept with an answer that is asked for now.
    pub stamp: Stamp,
    /// The answer and how long it is still kept.
    pub found: Option<(Vec<u8>, Duration)>,
}

/// What was forgotten since a moment.
#[derive(Debug, Clone)]
pub struct News {
    /// The moment now.
    pub stamp: Stamp,
    /// Whether everything was, or what was cannot be told any more.
    pub everything: bool,
    /// Tags.
    pub tags: Vec<Tag>,
}

/// The future of a shelf's answer.
pub type Shelved<'a, T> = BoxFuture<'a, Result<T, Failure>>;

/// A place where all gateways keep answers. A call may hang: whoever calls has a deadline.
pub trait Shelf: Send + Sync {
    /// The answer under a key, unless one of its tags was forgotten since.
    fn look<'a>(&'a self, key: &'a str, tags: &'a [Tag]) -> Shelved<'a, Look>;

    /// Keeps an answer that was asked for after `stamp`.
    fn put<'a>(&'a self, key: &'a str, stamp: &'a Stamp, answer: &'a [u8], keep: Duration) -> Shelved<'a, ()>;

    /// Forgets all answers with one of these tags; all there are without any.
    fn forget<'a>(&'a self, tags: &'a [Tag]) -> Shelved<'a, ()>;

    /// What was forgotten since a moment; everything for who knows none.
    fn news<'a>(&'a self, since: Option<&'a Stamp>) -> Shelved<'a, News>;

    /// Where it is, for people; without password.
    fn place(&self) -> String;
}
