//! Placeholder for the catalogue until it lands from its branch.
use serde::{Deserialize, Serialize};
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs)]
pub enum Code {
    Eicar,
    DmarcPass,
}
#[allow(missing_docs)]
impl Code {
    pub const ALL: &'static [Code] = &[Code::Eicar, Code::DmarcPass];
    pub fn as_str(self) -> &'static str {
        match self {
            Code::Eicar => "EICAR",
            Code::DmarcPass => "DMARC_PASS",
        }
    }
    pub fn group(self) -> Group {
        Group::Content
    }
    pub fn sentence(self) -> &'static str {
        ""
    }
    pub fn is_malware(self) -> bool {
        self == Code::Eicar
    }
}
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Group {
    Content,
}
#[allow(missing_docs)]
impl Group {
    pub const ALL: &'static [Group] = &[Group::Content];
    pub fn as_str(self) -> &'static str {
        "content"
    }
}
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Signal {
    pub code: Code,
    pub strength: f32,
    pub evidence: Vec<String>,
}
#[derive(Debug, Clone, Default)]
#[allow(missing_docs)]
pub struct Site {
    pub own_domains: Vec<String>,
}
#[allow(missing_docs)]
impl Site {
    pub fn new(own: &[String], _vips: &[String]) -> Self {
        Self { own_domains: own.to_vec() }
    }
}
#[allow(missing_docs)]
pub struct Input<'a> {
    pub message: &'a crate::mail::Message,
    pub envelope: &'a crate::mail::Envelope,
    pub connection: &'a crate::mail::Connection,
    pub facts: &'a super::Facts,
    pub site: &'a Site,
}
#[allow(missing_docs)]
pub fn analyse(_i: &Input<'_>) -> Vec<Signal> {
    Vec::new()
}
