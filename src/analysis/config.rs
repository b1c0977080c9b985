//! What the operator tells the detectors: whose mail this is, and who must not be impersonated.

use serde::{Deserialize, Serialize};

/// Settings of the detectors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AnalysisConfig {
    /// Our own domains, lower case: `example.org`; subdomains count with them.
    pub own_domains: Vec<String>,
    /// People whose name is used to deceive: managers, accounting.
    pub vips: Vec<Vip>,
    /// Brands beside the built-in ones.
    pub brands: Vec<OwnBrand>,
    /// Bytes of text read for wording. Default 64 KiB.
    pub max_wording_bytes: usize,
}

impl Default for AnalysisConfig {
    fn default() -> Self {
        Self { own_domains: Vec::new(), vips: Vec::new(), brands: Vec::new(), max_wording_bytes: 64 << 10 }
    }
}

/// A protected person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vip {
    /// The name as it is shown: `Erika Mustermann`.
    pub name: String,
    /// Addresses this person does write from, own domains aside.
    #[serde(default)]
    pub addresses: Vec<String>,
}

/// A brand of the operator's own choice: a bank, a supplier, the parent company.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnBrand {
    /// Name as shown, such as `Example Bank`.
    pub name: String,
    /// Registrable domains it writes from.
    pub domains: Vec<String>,
}
