//! What the operator says about the organisation, as lists of the rules.
//!
//! What is not said is unknown, not empty: a list that is known to be empty is an empty file in a folder of lists.

use crate::mail::{Address, registrable_domain};

/// A protected person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrgVip {
    /// Name as it is shown.
    pub display_name: String,
    /// Address, lower case; empty when none was given.
    pub email: String,
}

/// The organisation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Organisation {
    /// Its mail domains, lower case: `$org_domains`, and their first registrable labels: `$org_slds`.
    pub domains: Vec<String>,
    /// Its protected people: `$org_vips`.
    pub vips: Vec<OrgVip>,
    /// Names of its people as they are shown: `$org_display_names`.
    pub display_names: Vec<String>,
    /// Domains that its services gave it, such as `example.sharepoint.com`: `$tenant_domains`.
    pub tenant_domains: Vec<String>,
    /// Its own brands and trade names: `$org_brand_names`.
    pub brand_names: Vec<String>,
}

impl Organisation {
    /// Domains, and people as `Display Name <address>` or the name alone; the rest is not known.
    pub fn new(domains: &[String], vips: &[String]) -> Self {
        let vip = |text: &String| {
            let (name, address) = text.split_once('<').unwrap_or((text, ""));
            let address = Address::parse(address.trim_end_matches(['>', ' ']));
            let display_name = name.trim().trim_matches('"').to_owned();
            let email = address.map(|address| address.to_string().to_lowercase()).unwrap_or_default();
            (!display_name.is_empty()).then_some(OrgVip { display_name, email })
        };
        Self { domains: hosts(domains), vips: vips.iter().filter_map(vip).collect(), ..Self::default() }
    }

    /// Names and entries of those lists of which something is known.
    pub(super) fn lists(&self) -> Vec<(&'static str, Vec<String>)> {
        let slds = self.domains.iter().filter_map(|domain| registrable_domain(domain)?.split('.').next());
        let lists = vec![
            ("org_slds", slds.map(str::to_owned).collect()),
            ("org_domains", self.domains.clone()),
            ("org_display_names", self.display_names.clone()),
            ("tenant_domains", hosts(&self.tenant_domains)),
            ("org_brand_names", self.brand_names.clone()),
        ];
        lists.into_iter().filter(|(_, entries): &(_, Vec<String>)| !entries.is_empty()).collect()
    }
}

fn hosts(names: &[String]) -> Vec<String> {
    let host = |name: &String| name.trim().trim_start_matches("*.").trim_matches('.').to_lowercase();
    names.iter().map(host).filter(|name| !name.is_empty()).collect()
}
