//! The lists that come with the program: files of `policies/lists`, written by us.

/// One of them.
pub(super) struct BuiltIn {
    /// Name without `$`.
    pub(super) name: &'static str,
    /// Its file, for people.
    pub(super) file: &'static str,
    /// Its text.
    pub(super) text: &'static str,
    /// More entries out of another file.
    pub(super) more: &'static str,
}

macro_rules! built_in {
    ($name:literal) => {
        built_in!($name, "")
    };
    ($name:literal, $more:expr) => {
        BuiltIn {
            name: $name,
            file: concat!("policies/lists/", $name, ".txt"),
            text: include_str!(concat!("../../../policies/lists/", $name, ".txt")),
            more: $more,
        }
    };
}

/// All of them. There is none of trusted senders: whom to trust is the operator's to say.
pub(super) const BUILT_IN: &[BuiltIn] = &[
    built_in!("file_extensions_common_archives"),
    built_in!("file_extensions_executables"),
    built_in!("file_extensions_macros"),
    built_in!("file_types_images"),
    built_in!("free_email_providers"),
    built_in!("free_file_hosts", include_str!("../../../policies/lists/file_transfer_hosts.txt")),
    built_in!("free_subdomain_hosts"),
    built_in!("suspicious_tlds"),
    built_in!("url_shorteners"),
];
