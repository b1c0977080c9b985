//! What a value would need that this deployment or this moment does not have.

use std::fmt;

macro_rules! capabilities {
    ($($(#[doc = $doc:literal])+ $name:ident = $word:literal, $tier:literal;)+) => {
        /// Something outside the message that functions rest on.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Capability {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Capability {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The word for people, records and metrics.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $word,)+ }
            }

            /// The tier of the reference (section 6): `B` to `G`; `T` for triage, `-` for none.
            pub fn tier(self) -> char {
                match self { $(Self::$name => $tier,)+ }
            }
        }
    };
}

capabilities! {
    /// A `$list` that is not configured.
    List = "list", '-';
    /// Opening attachments.
    Files = "files", 'B';
    /// What is remembered of senders.
    History = "history", 'C';
    /// Text classification.
    Nlu = "nlu", 'D';
    /// Age and owner of a domain.
    Whois = "whois", 'E';
    /// Visiting links.
    LinkAnalysis = "link_analysis", 'E';
    /// Reading text off pictures.
    Ocr = "ocr", 'F';
    /// Pictures of the message as it looks.
    Screenshot = "screenshot", 'F';
    /// Recognising logos.
    Logo = "logo", 'F';
    /// Judging macros.
    Macros = "macros", 'G';
    /// A verdict of the whole platform.
    AttackScore = "attack_score", 'G';
    /// Translation.
    Translation = "translation", 'G';
    /// Finding personal data.
    SensitiveData = "sensitive_data", 'P';
    /// YARA rules over files.
    Yara = "yara", 'B';
    /// What happened to a report of a user.
    Triage = "triage", 'T';
    /// What the client or directory would say: authentication not checked, mailbox data not there.
    Facts = "facts", '-';
    /// The budget of steps, time or memory was used up.
    Budget = "budget", '-';
}

/// A set of capabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Needs(u32);

impl Needs {
    /// Nothing.
    pub const NONE: Self = Self(0);

    /// One capability.
    pub const fn of(capability: Capability) -> Self {
        Self(1 << capability as u32)
    }

    /// All that only a service gives.
    pub fn services() -> Self {
        let outside = |capability: &&Capability| matches!(capability.tier(), 'D'..='G' | 'P' | 'T');
        Capability::ALL.iter().filter(outside).fold(Self::NONE, |all, one| all.and(Self::of(*one)))
    }

    /// Both.
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// These, less the others.
    pub fn less(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether there is none.
    pub fn is_none(self) -> bool {
        self.0 == 0
    }

    /// Whether that one is among them.
    pub fn has(self, capability: Capability) -> bool {
        self.0 & Self::of(capability).0 != 0
    }

    /// Those that are in both.
    pub fn common(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Each of them.
    pub fn iter(self) -> impl Iterator<Item = Capability> {
        Capability::ALL.iter().copied().filter(move |one| self.has(*one))
    }
}

impl fmt::Display for Needs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<&str> = self.iter().map(Capability::as_str).collect();
        f.write_str(&words.join(", "))
    }
}
