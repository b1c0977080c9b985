//! The Message Data Model as types: classes with their fields, roots, and what functions take and give.
//!
//! Written as tables in the words of the reference (section 4). `string`, `int`, `float`, `bool`, `time`, `json`, `any`, a
//! class name, `[T]` an array, `<T>` a map from names.

use std::collections::HashMap;
use std::fmt;
use std::sync::LazyLock;

/// A static type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Type {
    /// Anything: dynamic values, literals of null.
    Any,
    Bool,
    Int,
    Float,
    Text,
    Json,
    Object(ClassId),
    Array(Box<Type>),
    Map(Box<Type>),
}

/// Index of a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct ClassId(pub(super) usize);

/// A class of objects.
#[derive(Debug)]
pub(super) struct Class {
    pub(super) name: &'static str,
    pub(super) fields: Vec<FieldType>,
}

/// A field of a class.
#[derive(Debug)]
pub(super) struct FieldType {
    pub(super) name: &'static str,
    pub(super) kind: Type,
}

impl Class {
    pub(super) fn place(&self, name: &str) -> Option<usize> {
        self.fields.iter().position(|field| field.name == name)
    }
}

/// All classes.
pub(super) struct Schema {
    pub(super) classes: Vec<Class>,
    by_name: HashMap<&'static str, ClassId>,
}

impl Schema {
    pub(super) fn class(&self, name: &str) -> ClassId {
        // A name that is not there would show in the first test: `Message` is class 0.
        self.by_name.get(name).copied().unwrap_or(ClassId(0))
    }

    /// Reads a type as it is written in the tables.
    pub(super) fn read(&self, text: &str) -> Type {
        let inner = |open: char, close: char| text.strip_prefix(open).and_then(|t| t.strip_suffix(close));
        if let Some(item) = inner('[', ']') {
            return Type::Array(self.read(item).into());
        }
        if let Some(item) = inner('<', '>') {
            return Type::Map(self.read(item).into());
        }
        match text {
            "bool" => Type::Bool,
            "int" => Type::Int,
            "float" => Type::Float,
            "string" | "time" => Type::Text,
            "json" => Type::Json,
            "any" => Type::Any,
            name => Type::Object(self.class(name)),
        }
    }
}

/// The schema, read once.
pub(super) fn schema() -> &'static Schema {
    static SCHEMA: LazyLock<Schema> = LazyLock::new(|| {
        let by_name = CLASSES.iter().enumerate().map(|(i, (name, _))| (*name, ClassId(i))).collect();
        let mut schema = Schema { classes: Vec::new(), by_name };
        schema.classes = CLASSES
            .iter()
            .map(|(name, fields)| Class {
                name,
                fields: fields
                    .split_whitespace()
                    .filter_map(|field| field.split_once(':'))
                    .map(|(name, kind)| FieldType { name, kind: schema.read(kind) })
                    .collect(),
            })
            .collect();
        schema
    });
    &SCHEMA
}

impl Type {
    /// Whether a value of this type may stand where `wanted` is.
    pub(super) fn fits(&self, wanted: &Self) -> bool {
        match (self, wanted) {
            (Self::Any | Self::Json, _) | (_, Self::Any) | (Self::Int, Self::Float) => true,
            (Self::Array(a), Self::Array(b)) | (Self::Map(a), Self::Map(b)) => a.fits(b),
            (_, Self::Json) => true,
            (a, b) => a == b,
        }
    }

    /// Whether two values can be compared at all.
    pub(super) fn meets(&self, other: &Self) -> bool {
        self.fits(other) || other.fits(self)
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::Bool => f.write_str("bool"),
            Self::Int => f.write_str("int"),
            Self::Float => f.write_str("float"),
            Self::Text => f.write_str("string"),
            Self::Json => f.write_str("json"),
            Self::Object(class) => f.write_str(schema().classes[class.0].name),
            Self::Array(item) => write!(f, "[{item}]"),
            Self::Map(item) => write!(f, "map of {item}"),
        }
    }
}

const CLASSES: &[(&str, &str)] = &[
    (
        "Message",
        "type:MessageType sender:Sender recipients:Recipients subject:Subject headers:Headers body:Body \
         attachments:[Attachment] mailbox:MailboxExtended external:External _meta:Meta _errors:[<string>]",
    ),
    ("MessageType", "inbound:bool internal:bool outbound:bool"),
    ("Sender", "display_name:string email:EmailAddress decoders:[string]"),
    ("Recipients", "to:[Mailbox] cc:[Mailbox] bcc:[Mailbox]"),
    ("Mailbox", "display_name:string email:EmailAddress"),
    ("MailboxExtended", "display_name:string email:EmailAddress first_name:string last_name:string"),
    ("External", "created_at:time message_id:string route_type:string spam:bool spam_folder:bool thread_id:string"),
    ("Meta", "id:string canonical_id:string created_at:time effective_at:time"),
    ("EmailAddress", "email:string local_part:string domain:Domain error:string"),
    (
        "Domain",
        "domain:string root_domain:string sld:string tld:string subdomain:string valid:bool punycode:string error:string",
    ),
    ("Subject", "subject:string base:string is_reply:bool is_forward:bool is_auto_reply:bool tags:[string]"),
    (
        "Headers",
        "hops:[Hop] auth_summary:AuthSummary references:[string] in_reply_to:string reply_to:[Mailbox] \
         return_path:EmailAddress domains:[Domain] ips:[IP] message_id:string mailer:string date:time \
         date_original_offset:string delivered_to:EmailAddress from:Mailbox x_originating_ip:IP x_client_ip:IP \
         x_authenticated_domain:Domain x_authenticated_sender:EmailAddress x_sender:EmailAddress \
         x_secure_server_account:string",
    ),
    ("AuthSummary", "dmarc:DmarcSummary spf:SpfSummary"),
    ("DmarcSummary", "pass:bool error:bool details:Dmarc received_hop:int"),
    ("SpfSummary", "pass:bool error:bool details:Spf received_hop:int"),
    (
        "Dmarc",
        "verdict:string action:string policy:string sub_policy:string disposition:string version:string from:Domain",
    ),
    ("Spf", "verdict:string description:string designator:string client_ip:IP helo:Domain server:Domain"),
    (
        "Hop",
        "index:int fields:[HopField] authentication_results:AuthResults received:Received received_spf:Spf signature:Signature",
    ),
    ("HopField", "name:string value:string position:int"),
    (
        "Received",
        "additional:RawText id:RawText link:RawText mailbox:RawText protocol:RawText server:RawText source:RawText time:time zone_offset:string",
    ),
    ("RawText", "raw:string"),
    (
        "Signature",
        "algorithm:string body_hash:string domain:string headers:string instance:string selector:string signature:string type:string version:string raw_body_hash:string",
    ),
    (
        "AuthResults",
        "dmarc:string spf:string dkim:string dkim_details:[Signature] dmarc_details:Dmarc spf_details:Spf compauth:CompAuth \
         server:Domain instance:string type:string",
    ),
    ("CompAuth", "verdict:string reason:string"),
    ("IP", "ip:string version:int translation:IpTranslation"),
    ("IpTranslation", "original:string v4_to_v6:bool encoders:[string]"),
    ("Body", "current_thread:Thread previous_threads:[PreviousThread] html:Html plain:Plain links:[Link] ips:[IP]"),
    ("Thread", "text:string links:[Link] preamble:string banners:[Banner]"),
    ("Banner", "text:string links:[Link]"),
    (
        "PreviousThread",
        "text:string preamble:string sender:Mailbox recipients:Recipients subject:Subject links:[Link] date:time index:int \
         banners:[Banner]",
    ),
    (
        "Html",
        "raw:string display_text:string inner_text:string links:[Link] charset:string content_transfer_encoding:string",
    ),
    ("Plain", "raw:string links:[Link] charset:string content_transfer_encoding:string"),
    ("Link", "href_url:Url display_text:string display_url:Url mismatched:bool parser:string visible:bool"),
    (
        "Url",
        "url:string scheme:string domain:Domain ip:IP port:int path:string query_params:string \
         query_params_decoded:<[string]> fragment:string username:string password:string rewrite:Rewrite",
    ),
    ("Rewrite", "encoders:[string] original:string"),
    (
        "Attachment",
        "file_type:string file_extension:string file_name:string content_type:string content_disposition:string \
         content_id:string content_transfer_encoding:string size:int md5:string sha1:string sha256:string raw:string",
    ),
    ("Archive", "files:[Attachment]"),
    ("ParsedText", "text:string"),
    (
        "ScanRecord",
        "depth:int file_name:string file_extension:string flavors:Flavors size:int source:string node_id:string \
         parent_node_id:string scan:Scan",
    ),
    ("Flavors", "mime:string yara:[string] external:[string]"),
    (
        "Scan",
        "ocr:ScanText strings:ScanStrings url:ScanUrl qr:ScanQr exiftool:Exif yara:ScanYara javascript:ScanJavascript pdf:ScanPdf \
         entropy:ScanEntropy zip:ScanZip pdf_obj_hash:ScanPdfHash html:ScanHtml ics:ScanIcs vba:ScanVba docx:ScanOffice \
         pptx:ScanOffice hash:ScanHash xml:ScanXml encrypted_zip:ScanEncrypted",
    ),
    ("ScanText", "raw:string text:[string]"),
    ("ScanStrings", "raw:string strings:[string]"),
    ("ScanUrl", "urls:[Url] invalid_urls:[string]"),
    ("ScanQr", "type:string data:string url:Url"),
    (
        "Exif",
        "fields:[ExifField] creator:string producer:string title:string author:string page_count:int image_height:int \
         image_width:int zip_file_name:string zip_uncompressed_size:int",
    ),
    ("ExifField", "key:string value:string"),
    ("ScanYara", "matches:[YaraMatch] flags:[string]"),
    ("YaraMatch", "name:string meta:json"),
    (
        "ScanJavascript",
        "identifiers:[string] strings:[string] keywords:[string] tokens:[string] regular_expressions:[string] urls:[Url]",
    ),
    ("ScanPdf", "urls:[Url] invalid_urls:[string] total_extracted:int"),
    ("ScanEntropy", "entropy:float"),
    ("ScanZip", "all_paths:[string] attempted_files:[string] encrypted:bool total_files:int total_extracted:int"),
    ("ScanPdfHash", "object_hash:string hash_string:string"),
    ("ScanHtml", "title:string scripts:[HtmlScript] hyperlinks:[string] spans:[HtmlSpan]"),
    ("HtmlScript", "language:string src:string type:string"),
    ("HtmlSpan", "class:string style:string"),
    ("ScanIcs", "calendars:[IcsCalendar]"),
    ("IcsCalendar", "components:[IcsComponent] product_id:string"),
    (
        "IcsComponent",
        "type:string uid:string summary:string description:string organizers:[IcsPerson] attendees:[IcsPerson] attachments:[IcsAttachment] \
         urls:[Url] url:Url location:string",
    ),
    ("IcsPerson", "mailbox:Mailbox mailto:string"),
    ("IcsAttachment", "type:string uri:string url:Url data:string"),
    ("ScanVba", "auto_exec:[string] hex:[string] base64:[string] ioc:[string] suspicious:[string]"),
    ("ScanOffice", "author:string word_count:int image_count:int last_modified_by:string title:string"),
    ("ScanHash", "md5:string sha1:string sha256:string ssdeep:string"),
    ("ScanXml", "tags:[string] namespaces:[string] doc_type:string"),
    ("ScanEncrypted", "cracked_password:string"),
    ("OleTools", "relationships:[OleRelationship] macros:OleMacros indicators:OleIndicators"),
    ("OleRelationship", "name:string target:string target_url:Url"),
    ("OleMacros", "keywords:[OleKeyword]"),
    ("OleKeyword", "type:string keyword:string description:string"),
    (
        "OleIndicators",
        "vba_macros:OleIndicator xlm_macros:OleIndicator encryption:OleIndicator external_relationships:OleIndicator \
         object_pool:OleIndicator flash_objects:OleIndicator file_format:OleValue application_name:OleValue",
    ),
    ("OleIndicator", "exists:bool risk:string count:int"),
    ("OleValue", "value:string"),
    ("Ics", "product_id:string scale:string method:string events:[IcsEvent]"),
    (
        "IcsEvent",
        "uid:string summary:string description:string description_html:Html links:[Link] raw_properties:[IcsProperty] \
         organizer:Mailbox attendees:[IcsPerson] location:string",
    ),
    ("IcsProperty", "key:string value:string"),
    ("QrResult", "found:bool items:[QrItem]"),
    ("QrItem", "type:string data:string url:Url"),
    ("XPathResult", "nodes:[XPathNode]"),
    ("XPathNode", "raw:string inner_text:string display_text:string links:[Link]"),
    ("RegexMatch", "full_match:string groups:[string] named_groups:<string>"),
    ("Ocr", "text:string success:bool page_results:[OcrPage]"),
    ("OcrPage", "text:string"),
    ("Nlu", "language:string intents:[NluItem] topics:[NluItem] tags:[NluItem] entities:[NluEntity]"),
    ("NluItem", "name:string confidence:string"),
    ("NluEntity", "name:string text:string"),
    ("Topics", "topics:[NluItem]"),
    ("Logos", "brands:[NluItem]"),
    ("MacroVerdict", "malicious:bool confidence:string"),
    ("AttackScore", "verdict:string score:int"),
    ("Translated", "text:string"),
    ("Sensitive", "elements:[SensitiveElement]"),
    ("SensitiveElement", "type:string text:string confidence:string"),
    (
        "LinkAnalysis",
        "final_dom:Html credphish:CredPhish effective_url:Url redirect_history:[Url] files_downloaded:[Attachment] \
         screenshot:Attachment unique_urls_accessed:[Url] additional_responses:[WebResponse] status_code:int submitted:bool",
    ),
    ("CredPhish", "disposition:string confidence:string contains_login:bool contains_captcha:bool brand:NluItem"),
    ("WebResponse", "url:Url status_code:int content_type:string json:json file:Attachment"),
    (
        "Whois",
        "found:bool days_old:int registrar_name:string registrant_company:string registrant_country:string \
         registrant_country_code:string registrant_email:string administrative_email:string technical_email:string \
         name_servers:[Domain]",
    ),
    (
        "Profile",
        "prevalence:string solicited:bool any_messages_benign:bool any_messages_malicious_or_spam:bool \
         any_false_positives:bool auth_failed:bool days_known:int days_since:DaysSince",
    ),
    ("DaysSince", "first_contact:int last_contact:int last_inbound:int last_outbound:int"),
    (
        "Triage",
        "trigger:string classification:TriageClass agents:TriageAgents flagged_rules:[any] user_reports:TriageReports",
    ),
    ("TriageClass", "classification:string"),
    ("TriageAgents", "asa:TriageVerdict"),
    ("TriageVerdict", "verdict:string"),
    ("TriageReports", "count:int"),
    ("Vip", "display_name:string email:string"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_that_is_named_is_there() {
        const SIMPLE: [&str; 7] = ["string", "time", "int", "float", "bool", "json", "any"];
        for (class, fields) in CLASSES {
            for field in fields.split_whitespace() {
                let (_, kind) = field.split_once(':').unwrap();
                let name = kind.trim_matches(['[', ']', '<', '>']);
                let known = SIMPLE.contains(&name) || CLASSES.iter().any(|(class, _)| *class == name);
                assert!(known, "{class}.{field}");
            }
        }
    }
}
