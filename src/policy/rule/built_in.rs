//! The rules that come with the program: files of `policies/rules`, written by us.

/// Name of their feed in modes, records and metrics.
pub const BUILT_IN_FEED: &str = "mailweir";

macro_rules! built_in {
    ($($name:literal,)*) => {
        /// Names and texts of their files.
        pub const BUILT_IN_RULES: &[(&str, &str)] =
            &[$((concat!($name, ".yml"), include_str!(concat!("../../../policies/rules/", $name, ".yml"))),)*];
    };
}

built_in! {
}
