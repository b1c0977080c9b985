//! Rule files: one YAML mapping a file, whose `source` is an expression in MQL. And what is done with a rule: enforced, only
//! watched, or off.
//!
//! A file is read as data: nothing here knows MQL. Not here: reading the files (`app`).

mod built_in;
mod file;
mod id;
mod mode;
mod place;
mod set;
mod stage;
mod yaml;

pub use built_in::{BUILT_IN_FEED, BUILT_IN_RULES};
pub use file::{Author, Expect, RuleFile, RuleKind, RuleTest, Severity, TestMessage};
pub use mode::{Feed, ModeOrigin, RuleMode, RuleModes, RuleWeights};
pub use place::{Position, SourcePlace};
pub use set::{LoadedRule, MatchedClause, RuleFindings, RuleMatch, RuleSet};
pub use stage::{RuleStages, Stage};
pub use yaml::RuleError;
