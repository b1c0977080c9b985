//! Tenants: whose mail it is decides how strictly it is judged. A recipient's domain names the tenant.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Risk at which something happens, 0 to 100; and what is done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Thresholds {
    /// Risk at which the subject is tagged.
    pub tag_at: f64,
    /// Risk at which the message is held.
    pub quarantine_at: f64,
    /// Risk at which it is refused.
    pub reject_at: f64,
    /// What the subject is tagged with.
    pub subject_tag: String,
    /// Where held mail waits: `store` (ours) or `mta` (the hold queue of Postfix, in milter mode; elsewhere ours).
    pub hold_in: HoldIn,
    /// What happens to malware: `reject` or `quarantine`.
    pub malware: MalwareAction,
    /// How mail waits for its second look: `deliver` or `hold`. Not given: as `reassess.wait` says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait: Option<Wait>,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            tag_at: 45.0,
            quarantine_at: 60.0,
            reject_at: 95.0,
            subject_tag: "[suspicious] ".into(),
            hold_in: HoldIn::Store,
            malware: MalwareAction::Reject,
            wait: None,
        }
    }
}

/// How a message waits for its second look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wait {
    /// It is passed on meanwhile.
    Deliver,
    /// It is held meanwhile.
    Hold,
}

/// Where held mail waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HoldIn {
    /// In the gateway's own quarantine.
    Store,
    /// In the hold queue of the MTA, where it has one.
    Mta,
}

/// What happens to malware.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MalwareAction {
    /// Refuse it.
    Reject,
    /// Hold it.
    Quarantine,
}

/// What one tenant sets differently; what is not given is as in `[policy.default]`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TenantConfig {
    /// Name, as in records, metrics and the API.
    pub name: String,
    /// Its recipient domains; `*.example.com` for subdomains.
    pub domains: Vec<String>,
    /// As in `[policy.default]`.
    pub tag_at: Option<f64>,
    /// As in `[policy.default]`.
    pub quarantine_at: Option<f64>,
    /// As in `[policy.default]`.
    pub reject_at: Option<f64>,
    /// As in `[policy.default]`.
    pub subject_tag: Option<String>,
    /// As in `[policy.default]`.
    pub hold_in: Option<HoldIn>,
    /// As in `[policy.default]`.
    pub malware: Option<MalwareAction>,
    /// As in `[policy.default]`.
    pub wait: Option<Wait>,
}

/// Name of the tenant of all domains that no other claims.
pub const DEFAULT_TENANT: &str = "default";

/// A tenant and how its mail is judged.
#[derive(Debug, Clone, PartialEq)]
pub struct Tenant {
    /// Name.
    pub name: String,
    /// How its mail is judged.
    pub thresholds: Thresholds,
}

/// All tenants, found by domain.
#[derive(Debug, Clone)]
pub struct Tenants {
    by_domain: HashMap<String, Arc<Tenant>>,
    by_suffix: HashMap<String, Arc<Tenant>>,
    default: Arc<Tenant>,
}

/// Settings of tenants that contradict each other.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum InvalidTenants {
    /// Two tenants claim one domain.
    #[error("policy.tenants: the domain {domain} belongs to both {first} and {second}: take it out of one")]
    DomainTwice {
        /// The domain.
        domain: String,
        /// One tenant.
        first: String,
        /// The other.
        second: String,
    },
    /// A name is missing or used twice.
    #[error("policy.tenants: the name `{0}` is empty, taken twice, or `default`: give each tenant its own")]
    Name(String),
    /// Thresholds out of range or order.
    #[error(
        "policy: thresholds of `{0}`: tag_at <= quarantine_at <= reject_at is needed, each from 0 to 101 (101: never)"
    )]
    Order(String),
}

impl Tenants {
    /// Builds the table.
    ///
    /// # Errors
    /// Names the first contradiction.
    pub fn new(default: &Thresholds, configs: &[TenantConfig]) -> Result<Self, InvalidTenants> {
        let default =
            Arc::new(Tenant { name: DEFAULT_TENANT.into(), thresholds: ordered(DEFAULT_TENANT, default.clone())? });
        let mut tenants = Self { by_domain: HashMap::new(), by_suffix: HashMap::new(), default };
        let mut names = vec![DEFAULT_TENANT];
        for config in configs {
            if config.name.is_empty() || names.contains(&config.name.as_str()) {
                return Err(InvalidTenants::Name(config.name.clone()));
            }
            names.push(&config.name);
            let base = &tenants.default.thresholds;
            let thresholds = Thresholds {
                tag_at: config.tag_at.unwrap_or(base.tag_at),
                quarantine_at: config.quarantine_at.unwrap_or(base.quarantine_at),
                reject_at: config.reject_at.unwrap_or(base.reject_at),
                subject_tag: config.subject_tag.clone().unwrap_or_else(|| base.subject_tag.clone()),
                hold_in: config.hold_in.unwrap_or(base.hold_in),
                malware: config.malware.unwrap_or(base.malware),
                wait: config.wait.or(base.wait),
            };
            let tenant = Arc::new(Tenant { name: config.name.clone(), thresholds: ordered(&config.name, thresholds)? });
            for domain in &config.domains {
                let domain = domain.to_lowercase();
                let (table, key) = match domain.strip_prefix("*.") {
                    Some(above) => (&mut tenants.by_suffix, above.to_owned()),
                    None => (&mut tenants.by_domain, domain.clone()),
                };
                if let Some(first) = table.insert(key, Arc::clone(&tenant)) {
                    let second = config.name.clone();
                    return Err(InvalidTenants::DomainTwice { domain, first: first.name.clone(), second });
                }
            }
        }
        Ok(tenants)
    }

    /// The tenant of a recipient domain (lower case).
    pub fn of(&self, domain: &str) -> &Arc<Tenant> {
        if let Some(tenant) = self.by_domain.get(domain) {
            return tenant;
        }
        let mut rest = domain;
        while let Some((_, above)) = rest.split_once('.') {
            if let Some(tenant) = self.by_suffix.get(above) {
                return tenant;
            }
            rest = above;
        }
        &self.default
    }
}

fn ordered(name: &str, thresholds: Thresholds) -> Result<Thresholds, InvalidTenants> {
    let Thresholds { tag_at, quarantine_at, reject_at, .. } = thresholds;
    let in_order = 0.0 <= tag_at && tag_at <= quarantine_at && quarantine_at <= reject_at && reject_at <= 101.0;
    if in_order { Ok(thresholds) } else { Err(InvalidTenants::Order(name.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(name: &str, domains: &[&str]) -> TenantConfig {
        TenantConfig {
            name: name.into(),
            domains: domains.iter().map(|d| (*d).to_owned()).collect(),
            ..Default::default()
        }
    }

    #[test]
    fn by_domain_and_suffix() {
        let mut strict = tenant("strict", &["bank.example", "*.bank.example"]);
        strict.quarantine_at = Some(50.0);
        let tenants = Tenants::new(&Thresholds::default(), &[strict, tenant("lab", &["lab.bank.example"])]).unwrap();
        assert_eq!(tenants.of("bank.example").name, "strict");
        assert_eq!(tenants.of("a.b.bank.example").thresholds.quarantine_at, 50.0);
        assert_eq!(tenants.of("a.b.bank.example").thresholds.reject_at, Thresholds::default().reject_at);
        assert_eq!(tenants.of("lab.bank.example").name, "lab");
        assert_eq!(tenants.of("elsewhere.example").name, "default");
    }

    #[test]
    fn contradictions_are_named() {
        let error = Tenants::new(&Thresholds::default(), &[tenant("a", &["x.example"]), tenant("b", &["X.example"])]);
        assert!(matches!(error, Err(InvalidTenants::DomainTwice { .. })));
        assert!(matches!(
            Tenants::new(&Thresholds::default(), &[tenant("default", &[])]),
            Err(InvalidTenants::Name(_))
        ));
        let thresholds = Thresholds { tag_at: 70.0, ..Thresholds::default() };
        assert!(matches!(Tenants::new(&thresholds, &[]), Err(InvalidTenants::Order(_))));
    }
}
