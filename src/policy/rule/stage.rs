//! When a rule is run: while the sender waits, or only in the second look after the reply.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Feed, RuleFile};

/// When a rule is run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// While the sender waits, and in the second look.
    #[default]
    Inline,
    /// Only in the second look.
    Deferred,
}

impl Stage {
    /// The word in files and settings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inline => "inline",
            Self::Deferred => "deferred",
        }
    }
}

/// When rules are run. The most specific setting counts: `ids`, then `tags`, then `feeds`, then the rule's own `stage`. Of
/// several tags `deferred` counts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RuleStages {
    /// By the rule's id.
    pub ids: BTreeMap<String, Stage>,
    /// By tag, without regard to case.
    pub tags: BTreeMap<String, Stage>,
    /// By name of the feed.
    pub feeds: BTreeMap<String, Stage>,
}

impl RuleStages {
    /// When a rule is run, and what says so.
    pub fn origin(&self, rule: &RuleFile, feed: &Feed) -> (Stage, String) {
        if let Some((_, stage)) = self.ids.iter().find(|(id, _)| id.eq_ignore_ascii_case(&rule.id)) {
            return (*stage, "policy.rules.stages.ids".into());
        }
        let named = |tag: &String| rule.tags.iter().any(|own| own.to_lowercase() == tag.to_lowercase());
        if let Some((tag, stage)) = self.tags.iter().filter(|(tag, _)| named(tag)).max_by_key(|(_, stage)| **stage) {
            return (*stage, format!("policy.rules.stages.tags, `{tag}`"));
        }
        if let Some(stage) = self.feeds.get(&feed.name) {
            return (*stage, format!("policy.rules.stages.feeds, `{}`", feed.name));
        }
        (rule.stage, "the file".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_setting_counts() {
        let text = "name: n\ntype: rule\nsource: a\ntags: [One, two]\nid: 00000000-0000-5000-8000-00000000000A\n";
        let inline = RuleFile::parse("x.yml", text).unwrap();
        let deferred = RuleFile::parse("x.yml", &format!("{text}stage: deferred\n")).unwrap();
        let feed = Feed::imported("public", "/rules");
        let mut stages = RuleStages::default();
        let of = |stages: &RuleStages, rule| stages.origin(rule, &feed).0;
        assert_eq!((of(&stages, &inline), of(&stages, &deferred)), (Stage::Inline, Stage::Deferred));
        stages.feeds.insert("public".into(), Stage::Deferred);
        assert_eq!(of(&stages, &inline), Stage::Deferred);
        stages.tags.insert("TWO".into(), Stage::Inline);
        assert_eq!(of(&stages, &deferred), Stage::Inline);
        stages.tags.insert("one".into(), Stage::Deferred);
        assert_eq!(stages.origin(&inline, &feed), (Stage::Deferred, "policy.rules.stages.tags, `one`".into()));
        stages.ids.insert("00000000-0000-5000-8000-00000000000a".into(), Stage::Inline);
        assert_eq!(of(&stages, &deferred), Stage::Inline);
        let error = RuleFile::parse("x.yml", &format!("{text}stage: later\n")).unwrap_err().to_string();
        assert!(error.starts_with("x.yml:6:1: stage `later`: write inline or deferred"), "{error}");
        let error = RuleFile::parse("x.yml", &format!("{text}wait: forever\n")).unwrap_err().to_string();
        assert!(error.contains("wait `forever`: write deliver or hold"), "{error}");
    }
}
