//! YARA rules over files, when the build has the feature `yara`: compiled from text, run by `boreal`.
//!
//! Rules come as text, so nothing is read here; `include` is refused. Modules that tell of the file itself are there (`pe`, `elf`,
//! `macho`, `dotnet`, `math`, `hash`, `string`); those that see a clock, a console or another system's report are not, so a file
//! matches the same today and tomorrow. A scan is bounded by time and bytes of a file, and by bytes of a message; what was
//! not looked at whole says so. Without the feature there is no way to make [`Yara`].

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// YARA rules and what they may take: section `[inspection.yara]`. Needs a build with the feature `yara`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct YaraConfig {
    /// Files of rules, and folders of them (`.yar`, `.yara`). Each file is a namespace of its own. Default none.
    pub paths: Vec<PathBuf>,
    /// Files of rules, at most. Default 2,000.
    pub max_rule_files: usize,
    /// Bytes of one file of rules. Default 8 MiB.
    pub max_rule_file_bytes: u64,
    /// Time of the scan of one file. After three files of a message that took so long no more are scanned. Default 100 ms.
    pub max_file_ms: u64,
    /// Bytes scanned of one file. Default 8 MiB.
    pub max_file_bytes: usize,
    /// Bytes scanned of all files of a message. Default 32 MiB.
    pub max_message_bytes: usize,
}

impl Default for YaraConfig {
    fn default() -> Self {
        Self {
            paths: Vec::new(),
            max_rule_files: 2_000,
            max_rule_file_bytes: 8 << 20,
            max_file_ms: 100,
            max_file_bytes: 8 << 20,
            max_message_bytes: 32 << 20,
        }
    }
}

/// A file of rules.
#[derive(Debug, Clone, Copy)]
pub struct YaraSource<'a> {
    /// Its name in error messages; also its namespace.
    pub name: &'a str,
    /// Its text.
    pub text: &'a str,
}

/// Why there are no rules.
#[derive(Debug, thiserror::Error)]
pub enum YaraError {
    /// The build lacks the feature.
    #[error("this build has no YARA: build it with `--features yara`, or leave inspection.yara.paths empty")]
    Absent,
    /// A file cannot be compiled; `FILE:LINE:COLUMN: what is wrong`.
    #[error("YARA rules cannot be used: {0}")]
    Broken(String),
}

/// A value of a rule's `meta`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum YaraValue {
    /// Text.
    Text(String),
    /// A whole number.
    Int(i64),
    /// True or false.
    Bool(bool),
}

/// A rule that matched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct YaraMatch {
    /// The rule's name.
    pub name: String,
    /// Its `meta`, in order.
    pub meta: Vec<(String, YaraValue)>,
}

impl YaraMatch {
    /// `meta.severity`, lower case.
    pub fn severity(&self) -> Option<String> {
        self.meta.iter().find_map(|(key, value)| match value {
            YaraValue::Text(text) if key == "severity" => Some(text.trim().to_ascii_lowercase()),
            _ => None,
        })
    }
}

/// What the rules say of one file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct YaraFindings {
    /// Rules that matched, in the order in which they were read.
    pub matches: Vec<YaraMatch>,
    /// Whether not all of the file was looked at: what did not match may be there all the same.
    pub cut: bool,
}

#[cfg(feature = "yara")]
pub use compiled::Yara;

#[cfg(feature = "yara")]
mod compiled {
    use std::fmt;
    use std::time::Duration;

    use boreal::compiler::{CompilerBuilder, CompilerParams, generate_description};
    use boreal::module::{Dotnet, Elf, Hash, MachO, Math, Pe, String_};
    use boreal::scanner::ScanParams;
    use boreal::{Metadata, MetadataValue, Scanner};
    use sha2::{Digest, Sha256};

    use super::{YaraConfig, YaraError, YaraFindings, YaraMatch, YaraSource, YaraValue};

    /// Compiled rules.
    pub struct Yara {
        scanner: Scanner,
        digest: [u8; 32],
        rules: usize,
        pub(in crate::content) config: YaraConfig,
    }

    impl Yara {
        /// Compiles rules, all or none.
        ///
        /// # Errors
        /// The first mistake, with file, line and column.
        pub fn compile(sources: &[YaraSource<'_>], config: &YaraConfig) -> Result<Self, YaraError> {
            let mut compiler = CompilerBuilder::default()
                .add_module(Math)
                .add_module(String_)
                .add_module(Hash)
                .add_module(Pe)
                .add_module(Elf)
                .add_module(MachO)
                .add_module(Dotnet)
                .build();
            compiler.set_params(CompilerParams::default().disable_includes(true));
            let mut digest = Sha256::new();
            for YaraSource { name, text } in sources {
                compiler
                    .add_rules_str_in_namespace(text, name)
                    .map_err(|error| YaraError::Broken(generate_description(&error.to_diagnostic(), name, text)))?;
                digest.update((text.len() as u64).to_le_bytes());
                digest.update(text);
            }
            let mut scanner = compiler.finalize();
            let time = Duration::from_millis(config.max_file_ms);
            scanner.set_scan_params(ScanParams::default().timeout_duration(Some(time)));
            let rules = scanner.rules().count();
            Ok(Self { scanner, digest: digest.finalize().into(), rules, config: config.clone() })
        }

        /// Rules that can match, private ones aside.
        pub fn rules(&self) -> usize {
            self.rules
        }

        /// SHA-256 of the texts, in order: tells apart two sets of rules.
        pub fn digest(&self) -> &[u8; 32] {
            &self.digest
        }

        /// Looks at some bytes; the second value tells that time ran out.
        pub(in crate::content) fn scan(&self, bytes: &[u8]) -> (YaraFindings, bool) {
            let (result, slow) = match self.scanner.scan_mem(bytes) {
                Ok(result) => (result, false),
                Err((_, result)) => (result, true),
            };
            let matches = result.rules.iter().map(|rule| YaraMatch {
                name: rule.name.to_owned(),
                meta: rule.metadatas.iter().map(|one| self.meta(one)).collect(),
            });
            (YaraFindings { matches: matches.collect(), cut: slow }, slow)
        }

        fn meta(&self, one: &Metadata) -> (String, YaraValue) {
            let value = match one.value {
                MetadataValue::Bytes(bytes) => {
                    YaraValue::Text(String::from_utf8_lossy(self.scanner.get_bytes_symbol(bytes)).into_owned())
                }
                MetadataValue::Integer(number) => YaraValue::Int(number),
                MetadataValue::Boolean(is) => YaraValue::Bool(is),
            };
            (self.scanner.get_string_symbol(one.name).to_owned(), value)
        }
    }

    impl fmt::Debug for Yara {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct("Yara").field("rules", &self.rules()).field("config", &self.config).finish_non_exhaustive()
        }
    }

    impl PartialEq for Yara {
        fn eq(&self, other: &Self) -> bool {
            self.digest == other.digest && self.config == other.config
        }
    }

    impl Eq for Yara {}
}

#[cfg(not(feature = "yara"))]
pub use absent::Yara;

#[cfg(not(feature = "yara"))]
mod absent {
    use std::convert::Infallible;

    use super::{YaraConfig, YaraError, YaraFindings, YaraSource};

    /// Compiled rules: without the feature there are none.
    #[derive(Debug, PartialEq, Eq)]
    pub struct Yara(Infallible);

    impl Yara {
        /// Compiles rules: not in this build.
        ///
        /// # Errors
        /// Always.
        pub fn compile(_sources: &[YaraSource<'_>], _config: &YaraConfig) -> Result<Self, YaraError> {
            Err(YaraError::Absent)
        }

        /// Rules that can match.
        pub fn rules(&self) -> usize {
            match self.0 {}
        }

        /// What tells apart two sets of rules.
        pub fn digest(&self) -> &[u8; 32] {
            match self.0 {}
        }

        pub(in crate::content) fn scan(&self, _bytes: &[u8]) -> YaraFindings {
            match self.0 {}
        }
    }
}
