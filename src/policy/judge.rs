//! The judge: weights, lists and tenants as one value that is replaced whole on reload.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::Config;
use super::entries::{InvalidEntry, List};
use super::gtube::Gtube;
use super::rule::RuleFindings;
use super::score::{Score, score};
use super::tenant::{InvalidTenants, Tenant, Tenants};
use super::verdict::{Overrides, Subject, Verdict, allowed, blocked, verdict};
use super::weights::{BUILT_IN_WEIGHTS, InvalidWeights, Weights};
use crate::analysis::Signal;
use crate::mail::Path;

/// Contents of the files that the settings name, read by whoever may read files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PolicyFiles {
    /// `policy.weights_file`; `None`: the built-in weights.
    pub weights: Option<String>,
    /// `policy.lists.allow_file`.
    pub allow: String,
    /// `policy.lists.block_file`.
    pub block: String,
    /// What tells apart two sets of rules and their lists; empty without rules.
    pub rules_digest: String,
}

/// Settings that cannot be used; the message names the place.
#[derive(Debug, thiserror::Error)]
pub enum InvalidPolicy {
    /// Weights.
    #[error(transparent)]
    Weights(#[from] InvalidWeights),
    /// An entry of the allow list.
    #[error("policy.lists.allow: {0}")]
    Allow(#[source] InvalidEntry),
    /// An entry of the block list.
    #[error("policy.lists.block: {0}")]
    Block(#[source] InvalidEntry),
    /// Tenants.
    #[error(transparent)]
    Tenants(#[from] InvalidTenants),
}

/// Weights, lists, tenants.
#[derive(Debug, Clone)]
pub struct Judge {
    weights: Weights,
    allow: List,
    block: List,
    tenants: Tenants,
    version: String,
}

/// What was decided about a message.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement {
    /// The score and its terms.
    pub score: Score,
    /// Tenant and verdict of each recipient, in the envelope's order.
    pub verdicts: Vec<(Arc<Tenant>, Verdict)>,
}

impl Judge {
    /// Builds the judge; nothing of it is used unless all of it is right.
    ///
    /// # Errors
    /// Names the first setting that cannot be used.
    pub fn new(config: &Config, files: &PolicyFiles) -> Result<Self, InvalidPolicy> {
        let weights_text = files.weights.as_deref().unwrap_or(BUILT_IN_WEIGHTS);
        let weights = Weights::parse(weights_text)?;
        let allow = list(&config.lists.allow, &files.allow).map_err(InvalidPolicy::Allow)?;
        let block = list(&config.lists.block, &files.block).map_err(InvalidPolicy::Block)?;
        let tenants = Tenants::new(&config.default, &config.tenants)?;
        // Says only whether anything changed; a setting that cannot be written down cannot have been read.
        let settings = serde_json::to_string(config).unwrap_or_default();
        let digest = Sha256::new().chain_update(settings).chain_update(weights_text).chain_update(&files.allow);
        let digest = digest.chain_update(&files.block).chain_update(&files.rules_digest).finalize();
        let version = digest[..6].iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { weights, allow, block, tenants, version })
    }

    /// Whether hashes of attachments are needed for the lists.
    pub fn needs_hashes(&self) -> bool {
        self.allow.has_hashes() || self.block.has_hashes()
    }

    /// Version of settings, weights and lists.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Scores the evidence, of signals and rules, and decides for each recipient.
    pub fn judge(
        &self,
        signals: Vec<Signal>,
        found: &RuleFindings,
        subject: &Subject<'_>,
        gtube: Option<Gtube>,
        recipients: &[Path],
    ) -> Judgement {
        let score = score(signals, found, &self.weights);
        let overrides =
            Overrides { gtube, blocked: blocked(&self.block, subject), allowed: allowed(&self.allow, subject) };
        let verdicts = recipients.iter().map(|path| {
            let tenant = self.tenant(path);
            let verdict = verdict(&score, &overrides, &tenant.thresholds);
            (tenant, verdict)
        });
        let verdicts = verdicts.collect();
        Judgement { score, verdicts }
    }

    /// Whose mail a recipient's is.
    pub fn tenant(&self, recipient: &Path) -> Arc<Tenant> {
        let domain = recipient.address().map(|address| address.domain).unwrap_or_default();
        Arc::clone(self.tenants.of(&domain))
    }
}

fn list(entries: &[String], file: &str) -> Result<List, InvalidEntry> {
    let lines =
        file.lines().map(|line| line.split('#').next().unwrap_or_default().trim()).filter(|line| !line.is_empty());
    List::new(entries.iter().map(String::as_str).chain(lines))
}
