//! Categories of failures: what kind of thing went wrong, whether trying again may help, what a stranger may be told.
//!
//! Each room says it of its own errors, by variant and never by text. [`count`] makes `mailweir_errors_total` of them.

use std::sync::LazyLock;

use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

/// What kind of thing went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Category {
    /// Nobody answers, or the connection broke, or it took too long.
    Network,
    /// The database does not answer as it should.
    Database,
    /// A service answers and says that it has an error, or nonsense.
    External,
    /// What was asked makes no sense.
    Validation,
    /// A peer does not keep to its protocol.
    Protocol,
    /// A setting cannot be used.
    Configuration,
    /// Space, connections or a rate are used up.
    Resource,
    /// Our own fault.
    Internal,
}

impl Category {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Network,
        Self::Database,
        Self::External,
        Self::Validation,
        Self::Protocol,
        Self::Configuration,
        Self::Resource,
        Self::Internal,
    ];

    /// The word in metrics, API and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Database => "database",
            Self::External => "external",
            Self::Validation => "validation",
            Self::Protocol => "protocol",
            Self::Configuration => "configuration",
            Self::Resource => "resource",
            Self::Internal => "internal",
        }
    }
}

/// An error that knows what kind it is. Its `Display` is for the operator; nothing of it is told to strangers.
pub trait Fault: std::error::Error {
    /// What kind of thing went wrong.
    fn category(&self) -> Category;

    /// Whether the same attempt may succeed later.
    fn is_retryable(&self) -> bool;
}

/// Rooms whose failures are counted.
const ROOMS: [&str; 7] = ["admin", "app", "deferred", "egress", "enforcement", "gateway", "records"];

/// One for the process: errors arise where no registry is at hand.
static ERRORS: LazyLock<Option<Errors>> = LazyLock::new(|| {
    let opts = Opts::new("mailweir_errors_total", "Failures, by category and by the room in which they arose.");
    let all = IntCounterVec::new(opts, &["category", "room"]).ok()?;
    let of = |room| Category::ALL.map(|category| all.with_label_values(&[category.as_str(), room]));
    let each = ROOMS.map(|room| (room, of(room)));
    Some(Errors { all, each })
});

struct Errors {
    all: IntCounterVec,
    /// Looked up once: while a service is left alone each message counts some.
    each: [(&'static str, [IntCounter; Category::ALL.len()]); ROOMS.len()],
}

/// Shows the failures of this process in a registry.
///
/// # Errors
/// When the name is taken there.
pub fn register(registry: &Registry) -> Result<(), prometheus::Error> {
    ERRORS.as_ref().map_or(Ok(()), |errors| registry.register(Box::new(errors.all.clone())))
}

/// Counts a failure that arose in this room.
pub fn count(room: &'static str, category: Category) {
    let Some(errors) = ERRORS.as_ref() else { return };
    match errors.each.iter().find(|(name, _)| *name == room) {
        Some((_, counters)) => counters[category as usize].inc(),
        None => errors.all.with_label_values(&[category.as_str(), room]).inc(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_shown_from_the_start() {
        let registry = Registry::new();
        register(&registry).unwrap();
        let families = registry.gather();
        assert_eq!(families[0].get_metric().len(), ROOMS.len() * Category::ALL.len());
        assert!(register(&registry).is_err(), "once");
        for (place, category) in Category::ALL.into_iter().enumerate() {
            assert_eq!(place, category as usize, "{category:?}");
        }
    }
}
