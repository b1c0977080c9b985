//! Named lists of the rules: `$name`, as in `sender.email.domain.root_domain in $free_email_providers`.
//!
//! Members are exact strings; a name that no list has is *unknown*, which is not the same as empty. All lists are built
//! together and replaced whole. Not here: reading the files (`app`), the four lists that are remembered from traffic
//! (`$sender_emails` and its like, `analysis`).

mod built_in;

mod named;
mod organisation;
mod parse;

use std::collections::BTreeMap;
use std::sync::Arc;

use sha2::{Digest, Sha256};

pub use named::{NamedList, TooLarge};
pub use organisation::{OrgVip, Organisation};
pub use parse::{InvalidList, ListFile, ListHint, list_name, manifest};

use built_in::BUILT_IN;

/// Name of the list whose members are people, not strings.
pub const ORG_VIPS: &str = "org_vips";

/// All named lists.
#[derive(Debug, Clone, Default)]
pub struct Lists {
    named: BTreeMap<String, Arc<NamedList>>,
    vips: Option<Arc<[OrgVip]>>,
    digest: [u8; 32],
}

impl Lists {
    /// Builds all lists: built-in ones, those of the files, those of the organisation; a later one replaces an earlier one of
    /// the same name. `folded` names the lists that are also asked without regard to case.
    ///
    /// # Errors
    /// Everything that is wrong, each with file and line; nothing is built then.
    pub fn build<'f>(
        organisation: &Organisation,
        files: impl IntoIterator<Item = ListFile<'f>>,
        max_list_bytes: usize,
        folded: impl Fn(&str) -> bool,
    ) -> Result<Self, Vec<InvalidList>> {
        let mut named = BTreeMap::new();
        let mut invalid = Vec::new();
        let mut digest = Sha256::new();
        let mut add = |name: &str, file: &ListFile<'_>, more: &str| {
            let entries = parse::entries(file, max_list_bytes).and_then(|entries| {
                let all = entries.iter().chain(more.lines().map(str::trim).filter(|line| parse::is_entry(line)));
                NamedList::build(all, folded(name))
                    .map_err(|error| InvalidList::new(&file.label, None, error.to_string()))
            });
            match entries {
                Ok(list) => drop(named.insert(name.to_owned(), Arc::new(list))),
                Err(error) => invalid.push(error),
            }
        };
        for list in BUILT_IN {
            let file = ListFile { label: list.file.to_owned(), bytes: list.text.as_bytes(), hint: None };
            add(list.name, &file, list.more);
        }
        for file in files {
            // A file without a usable name is refused when it is read.
            let name = parse::name_of(&file).unwrap_or_default();
            digest.update(name.as_bytes());
            digest.update(Sha256::digest(file.bytes));
            add(&name, &file, "");
        }
        if !invalid.is_empty() {
            return Err(invalid);
        }
        for (name, entries) in organisation.lists() {
            digest.update(format!("{name} {entries:?}"));
            match NamedList::build(entries.iter().map(String::as_str), folded(name)) {
                Ok(list) => drop(named.insert(name.to_owned(), Arc::new(list))),
                Err(error) => invalid.push(InvalidList::new("policy.organisation", None, error.to_string())),
            }
        }
        let vips = (!organisation.vips.is_empty()).then(|| organisation.vips.clone().into());
        digest.update(format!("{vips:?}"));
        if invalid.is_empty() { Ok(Self { named, vips, digest: digest.finalize().into() }) } else { Err(invalid) }
    }

    /// What tells apart two sets of lists (SHA-256 over what they were built of; the built-in ones belong to the version).
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// The list of this name (without `$`); `None`: unknown.
    pub fn get(&self, name: &str) -> Option<&Arc<NamedList>> {
        self.named.get(name)
    }

    /// The organisation's protected people, `$org_vips`; `None`: unknown.
    pub fn org_vips(&self) -> Option<&Arc<[OrgVip]>> {
        self.vips.as_ref()
    }

    /// Names and lists, by name; `$org_vips` is not among them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &NamedList)> {
        self.named.iter().map(|(name, list)| (name.as_str(), &**list))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file<'f>(label: &str, bytes: &'f [u8]) -> ListFile<'f> {
        ListFile { label: label.to_owned(), bytes, hint: None }
    }

    fn build(files: Vec<ListFile<'_>>) -> Result<Lists, Vec<InvalidList>> {
        Lists::build(&Organisation::default(), files, 1 << 20, |_| true)
    }

    #[test]
    fn built_in_lists_are_there_and_are_replaced_by_name() {
        let lists = build(Vec::new()).unwrap();
        for (name, member, other) in [
            ("free_email_providers", "gmail.com", "example.com"),
            ("url_shorteners", "bit.ly", "rabbit.ly"),
            ("suspicious_tlds", "top", "com"),
            ("free_subdomain_hosts", "web.app", "app"),
            ("free_file_hosts", "dropbox.com", "example.com"),
            ("free_file_hosts", "drive.google.com", "google.com"),
            ("file_extensions_common_archives", "zip", "txt"),
            ("file_extensions_executables", "exe", "txt"),
            ("file_extensions_macros", "docm", "txt"),
            ("file_types_images", "png", "pdf"),
        ] {
            let list = lists.get(name).unwrap();
            assert!(list.contains(member) && !list.contains(other), "{name}");
            assert!(list.iter().all(|entry| !entry.contains(['#', ' '])), "{name}");
        }
        assert!(lists.get("tranco_1m").is_none() && lists.get("org_domains").is_none() && lists.org_vips().is_none());
        let lists =
            build(vec![file("/etc/lists/url_shorteners.txt", b"sho.example\n"), file("empty.txt", b"")]).unwrap();
        let list = lists.get("url_shorteners").unwrap();
        assert!(list.contains("sho.example") && !list.contains("bit.ly") && list.len() == 1);
        assert!(lists.get("empty").unwrap().is_empty(), "known, and nothing in it");
    }

    #[test]
    fn all_mistakes_at_once_or_nothing() {
        let errors = build(vec![
            file("a/x.txt", b"one\ntwo\xff\n"),
            file("b/y.csv", b"p,q\n1,2\n"),
            file("c/odd name!.txt", b""),
        ]);
        let errors: Vec<String> = errors.unwrap_err().iter().map(ToString::to_string).collect();
        assert_eq!(errors.len(), 3, "{errors:?}");
        assert!(errors[0].starts_with("a/x.txt:2: "), "{errors:?}");
        assert!(errors[1].starts_with("b/y.csv:1: ") && errors[1].contains("entry"), "{errors:?}");
        assert!(errors[2].starts_with("c/odd name!.txt: "), "{errors:?}");
    }

    #[test]
    fn the_organisation() {
        let organisation = Organisation::new(
            &["Example.com.".into(), "shop.example.co.uk".into()],
            &["Ada Lovelace <ada@example.com>".into(), "Bob".into()],
        );
        let lists = Lists::build(&organisation, Vec::new(), 1 << 20, |_| false).unwrap();
        let all = |name: &str| lists.get(name).unwrap().iter().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(all("org_domains"), ["example.com", "shop.example.co.uk"]);
        assert_eq!(all("org_slds"), ["example"]);
        assert!(lists.get("org_display_names").is_none(), "not given: unknown");
        let vips = lists.org_vips().unwrap();
        assert_eq!((vips[0].display_name.as_str(), vips[0].email.as_str()), ("Ada Lovelace", "ada@example.com"));
        assert_eq!((vips[1].display_name.as_str(), vips[1].email.as_str()), ("Bob", ""));
    }
}
