//! What is wrong with a setting: its name from the top, and the mend. Each room that has settings gives its own part of the name.

/// A setting that would not do what it says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {what}")]
pub struct WrongSetting {
    /// Its name, below whoever asks.
    pub key: String,
    /// What is wrong, and what to write instead.
    pub what: String,
}

impl WrongSetting {
    /// The same, named from one section further up.
    #[must_use]
    pub fn below(self, section: &str) -> Self {
        Self { key: format!("{section}.{}", self.key), ..self }
    }
}

/// A setting that would not do what it says.
pub fn wrong(key: &str, what: impl Into<String>) -> WrongSetting {
    WrongSetting { key: key.to_owned(), what: what.into() }
}
