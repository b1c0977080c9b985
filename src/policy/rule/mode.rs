//! What is done with a rule: its mode by the settings, and what a match is worth.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::file::{RuleFile, Severity};

/// What is done with a rule's matches. In the order of caution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleMode {
    /// It is not run.
    Off,
    /// It is run and its matches are recorded; they change nothing.
    Shadow,
    /// Its matches count.
    Enforce,
}

/// A folder of rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feed {
    /// Name, as in settings and records.
    pub name: String,
    /// Path, for people.
    pub label: String,
    /// Mode of its rules when no setting says otherwise.
    pub default_mode: RuleMode,
}

impl Feed {
    /// Rules of our own or of the operator: enforced.
    pub fn own(name: &str, label: &str) -> Self {
        Self { name: name.to_owned(), label: label.to_owned(), default_mode: RuleMode::Enforce }
    }

    /// Rules that others wrote: watched until the operator enforces them.
    pub fn imported(name: &str, label: &str) -> Self {
        Self { default_mode: RuleMode::Shadow, ..Self::own(name, label) }
    }
}

/// Modes of rules. The most specific setting counts: `ids`, then `tags`, then `severities`, then `feeds`, then what the feed is
/// by itself. Of several tags the most cautious mode counts (`off` before `shadow` before `enforce`). A rule whose file says
/// `active: false` is off unless `ids` names it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RuleModes {
    /// By the rule's id.
    pub ids: BTreeMap<String, RuleMode>,
    /// By tag, without regard to case.
    pub tags: BTreeMap<String, RuleMode>,
    /// By severity: `low`, `medium`, ….
    pub severities: BTreeMap<Severity, RuleMode>,
    /// By name of the feed.
    pub feeds: BTreeMap<String, RuleMode>,
}

/// What decided a rule's mode.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ModeOrigin {
    /// `modes.ids` names the rule.
    Id,
    /// The file says `active: false`.
    Inactive,
    /// `modes.tags` names this tag of the rule.
    Tag(String),
    /// `modes.severities` names its severity.
    Severity(Severity),
    /// `modes.feeds` names its feed.
    Feed,
    /// Nothing names it: it is as its feed is.
    FeedItself,
}

impl RuleModes {
    /// The mode of a rule.
    pub fn of(&self, rule: &RuleFile, feed: &Feed) -> RuleMode {
        self.origin(rule, feed).0
    }

    /// The mode of a rule and what decided it.
    pub fn origin(&self, rule: &RuleFile, feed: &Feed) -> (RuleMode, ModeOrigin) {
        let by_id = self.ids.iter().find(|(id, _)| id.eq_ignore_ascii_case(&rule.id));
        if let Some((_, mode)) = by_id {
            return (*mode, ModeOrigin::Id);
        }
        if !rule.active {
            return (RuleMode::Off, ModeOrigin::Inactive);
        }
        let named = |tag: &String| rule.tags.iter().any(|own| own.to_lowercase() == tag.to_lowercase());
        let by_tag = self.tags.iter().filter(|(tag, _)| named(tag)).min_by_key(|(_, mode)| **mode);
        let by_severity = || rule.severity.and_then(|severity| Some((severity, *self.severities.get(&severity)?)));
        match by_tag {
            Some((tag, mode)) => (*mode, ModeOrigin::Tag(tag.clone())),
            None => match (by_severity(), self.feeds.get(&feed.name)) {
                (Some((severity, mode)), _) => (mode, ModeOrigin::Severity(severity)),
                (None, Some(mode)) => (*mode, ModeOrigin::Feed),
                (None, None) => (feed.default_mode, ModeOrigin::FeedItself),
            },
        }
    }
}

/// What the match of an enforced rule is worth, in log-odds, by its severity: `[rules]` of the file of weights.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs, reason = "the words of the format")]
pub struct RuleWeights {
    pub informational: f64,
    pub low: f64,
    pub medium: f64,
    pub high: f64,
    pub critical: f64,
    /// Of a rule that says none.
    pub no_severity: f64,
    /// The most that all matches together may add.
    pub cap: f64,
}

impl Default for RuleWeights {
    fn default() -> Self {
        Self { informational: 0.0, low: 0.6, medium: 1.6, high: 2.6, critical: 3.4, no_severity: 1.0, cap: 5.0 }
    }
}

impl RuleWeights {
    /// The weight of one match.
    pub fn of(&self, severity: Option<Severity>) -> f64 {
        match severity {
            None => self.no_severity,
            Some(Severity::Informational) => self.informational,
            Some(Severity::Low) => self.low,
            Some(Severity::Medium) => self.medium,
            Some(Severity::High) => self.high,
            Some(Severity::Critical) => self.critical,
        }
    }

    /// Whether all numbers can be used.
    pub(in crate::policy) fn is_usable(&self) -> bool {
        let weights = [self.informational, self.low, self.medium, self.high, self.critical, self.no_severity];
        weights.iter().all(|weight| weight.is_finite()) && self.cap.is_finite() && self.cap >= 0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_setting_counts() {
        let text = "name: n\ntype: rule\nsource: a\nseverity: high\ntags: [One, two]\nid: 00000000-0000-5000-8000-00000000000A\n";
        let rule = RuleFile::parse("x.yml", text).unwrap();
        let asleep = RuleFile::parse("x.yml", &format!("{text}active: false\n")).unwrap();
        let feed = Feed::imported("public", "/rules");
        let mut modes = RuleModes::default();
        assert_eq!(modes.of(&rule, &feed), RuleMode::Shadow);
        assert_eq!(modes.of(&rule, &Feed::own("ours", "/ours")), RuleMode::Enforce);
        modes.feeds.insert("public".into(), RuleMode::Enforce);
        assert_eq!(modes.of(&rule, &feed), RuleMode::Enforce);
        modes.severities.insert(Severity::High, RuleMode::Off);
        assert_eq!(modes.of(&rule, &feed), RuleMode::Off);
        modes.tags.insert("ONE".into(), RuleMode::Enforce);
        assert_eq!(modes.of(&rule, &feed), RuleMode::Enforce);
        modes.tags.insert("two".into(), RuleMode::Shadow);
        assert_eq!(modes.of(&rule, &feed), RuleMode::Shadow);
        assert_eq!(modes.of(&asleep, &feed), RuleMode::Off);
        assert_eq!(modes.origin(&rule, &feed).1, ModeOrigin::Tag("two".into()));
        assert_eq!(modes.origin(&asleep, &feed).1, ModeOrigin::Inactive);
        assert_eq!(RuleModes::default().origin(&rule, &feed).1, ModeOrigin::FeedItself);
        modes.ids.insert("00000000-0000-5000-8000-00000000000a".into(), RuleMode::Enforce);
        assert_eq!(modes.of(&rule, &feed), RuleMode::Enforce);
        assert_eq!(modes.of(&asleep, &feed), RuleMode::Enforce);
    }

    #[test]
    fn settings_are_read() {
        let text = "tags = {\"Attack surface reduction\" = \"off\"}\nseverities = {low = \"shadow\"}\n";
        let modes: RuleModes = toml::from_str(text).unwrap();
        assert_eq!(modes.severities.get(&Severity::Low), Some(&RuleMode::Shadow));
        assert!(toml::from_str::<RuleModes>("severities = {huge = \"off\"}").is_err());
        assert!(RuleWeights::default().is_usable());
    }
}
