//! The signal catalogue: every piece of evidence a detector can give, once, with its group and one sentence.
//!
//! Weights are not here: they are data in `policies/weights.toml`. A signal is an enum, so a typo does not compile.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Kinds of evidence that do not add up without end: the policy caps each group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Group {
    /// Who it says it is from.
    Identity,
    /// Where answers and bounces go.
    ReplyPath,
    /// SPF, DKIM, DMARC.
    Authentication,
    /// Names made to be taken for others.
    Lookalike,
    /// Where it leads.
    Links,
    /// How it is written in HTML.
    Markup,
    /// What is attached.
    Attachments,
    /// The machine it came from and the software that made it.
    Infrastructure,
    /// Double meanings in its structure.
    Structure,
    /// What it says.
    Wording,
    /// What speaks for it.
    Trust,
    /// Evidence that needs no other.
    Hard,
}

impl Group {
    /// Every group there is.
    pub const ALL: &'static [Self] = &[
        Self::Identity,
        Self::ReplyPath,
        Self::Authentication,
        Self::Lookalike,
        Self::Links,
        Self::Markup,
        Self::Attachments,
        Self::Infrastructure,
        Self::Structure,
        Self::Wording,
        Self::Trust,
        Self::Hard,
    ];

    /// The name used in policies and records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::ReplyPath => "reply_path",
            Self::Authentication => "authentication",
            Self::Lookalike => "lookalike",
            Self::Links => "links",
            Self::Markup => "markup",
            Self::Attachments => "attachments",
            Self::Infrastructure => "infrastructure",
            Self::Structure => "structure",
            Self::Wording => "wording",
            Self::Trust => "trust",
            Self::Hard => "hard",
        }
    }
}

macro_rules! catalogue {
    ($($name:ident $code:literal $group:ident $sentence:literal;)+) => {
        /// A kind of evidence.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum Code {
            $(#[doc = $sentence] #[serde(rename = $code)] $name,)+
        }

        impl Code {
            /// Every code there is, in the order of the catalogue.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The name used in policies, records and for people.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)+ }
            }

            /// The group it is capped with.
            pub fn group(self) -> Group {
                match self { $(Self::$name => Group::$group,)+ }
            }

            /// Whether it is malware by itself: no allow entry lets it pass.
            pub fn is_malware(self) -> bool {
                matches!(self, Self::Eicar | Self::MalwareFound)
            }

            /// What it means, in one sentence.
            pub fn sentence(self) -> &'static str {
                match self { $(Self::$name => $sentence,)+ }
            }
        }
    };
}

catalogue! {
    BrandDisplay "BRAND_DISPLAY" Identity "The sender's name is a well-known brand's, the sender's domain is not.";
    BrandSubject "BRAND_SUBJECT" Identity "The subject speaks for a well-known brand, the sender's domain is not the brand's.";
    BrandBody "BRAND_BODY" Identity "The text speaks for one well-known brand, and neither sender nor links are the brand's.";
    BrandSpoofed "BRAND_SPOOFED" Identity "The sender's address is a well-known brand's, and authentication says it is not from there.";
    DisplayAddress "DISPLAY_ADDRESS" Identity "The sender's name shows an address of another domain.";
    VipName "VIP_NAME" Identity "The sender's name is a protected person's, the address is not.";
    OwnDomainSpoof "OWN_DOMAIN_SPOOF" Identity "The sender's address is in our own domain, and nothing proves it.";
    OwnNameDisplay "OWN_NAME_DISPLAY" Identity "The sender's name speaks for our own organisation from outside.";
    RoleDisplay "ROLE_DISPLAY" Identity "The sender's name is a service desk's or mail system's, from outside.";
    DisplayOddScript "DISPLAY_ODD_SCRIPT" Identity "The sender's name is written in letters made to look like others.";
    RandomSender "RANDOM_SENDER" Identity "The sender's address looks made by chance.";
    RandomSubject "RANDOM_SUBJECT" Identity "The subject ends in letters and digits made by chance, so that no two are alike.";
    SenderRiskyTld "SENDER_RISKY_TLD" Identity "The sender's domain is under a suffix that is mostly abused.";
    SenderFreeHosting "SENDER_FREE_HOSTING" Identity "The sender's domain is a name that anybody gets for nothing.";
    FromIsRecipient "FROM_IS_RECIPIENT" Identity "The sender pretends to be the recipient.";
    OrganisationFreemail "ORGANISATION_FREEMAIL" Identity "The sender's name is an authority's, bank's or firm's, the address a free mailbox.";
    RecipientAsName "RECIPIENT_AS_NAME" Identity "The subject or greeting uses the recipient's bare address for a name.";

    ReplyToOtherDomain "REPLY_TO_OTHER_DOMAIN" ReplyPath "Answers go to another domain than the sender's.";
    ReplyToFreemail "REPLY_TO_FREEMAIL" ReplyPath "Answers go to a free mailbox, the sender is none.";
    ReplyToOtherFreemail "REPLY_TO_OTHER_FREEMAIL" ReplyPath "Sender and address for answers are different free mailboxes.";
    EnvelopeOtherDomain "ENVELOPE_OTHER_DOMAIN" ReplyPath "Bounces go to another domain than the sender's, and nothing ties the two.";
    FalseReply "FALSE_REPLY" ReplyPath "The subject says it is an answer, and no earlier message is named.";
    NullSenderNoBounce "NULL_SENDER_NO_BOUNCE" ReplyPath "The envelope is a bounce's, the message is none.";

    SpfFail "SPF_FAIL" Authentication "The envelope sender's domain forbids this client (SPF fail).";
    SpfSoftfail "SPF_SOFTFAIL" Authentication "The envelope sender's domain does not know this client (SPF softfail).";
    SpfNone "SPF_NONE" Authentication "The envelope sender's domain has no usable SPF record.";
    DkimFail "DKIM_FAIL" Authentication "A signature of the sender's own domain does not verify.";
    DkimNone "DKIM_NONE" Authentication "No signature verifies.";
    DmarcFail "DMARC_FAIL" Authentication "The sender's domain is not proved (DMARC fail).";
    DmarcFailStrict "DMARC_FAIL_STRICT" Authentication "The sender's domain is not proved and asks to hold or refuse such mail.";
    NoAuthentication "NO_AUTHENTICATION" Authentication "Nothing at all proves where it comes from.";
    AuthUnknown "AUTH_UNKNOWN" Authentication "Authentication could not be checked.";

    LookalikeSender "LOOKALIKE_SENDER" Lookalike "The sender's domain is made to be taken for a well-known brand's.";
    LookalikeOwn "LOOKALIKE_OWN" Lookalike "The sender's domain is made to be taken for our own.";
    LookalikeLink "LOOKALIKE_LINK" Lookalike "A link's host is made to be taken for a well-known brand's.";
    MixedScriptHost "MIXED_SCRIPT_HOST" Lookalike "A host name mixes scripts or uses letters that look like others.";

    LinkTextMismatch "LINK_TEXT_MISMATCH" Links "A link shows one domain and leads to another.";
    LinkBrandMismatch "LINK_BRAND_MISMATCH" Links "A link shows a well-known brand's domain and leads elsewhere.";
    LinkIpHost "LINK_IP_HOST" Links "A link leads to a bare address.";
    LinkRiskyTld "LINK_RISKY_TLD" Links "A link leads to a suffix that is mostly abused.";
    LinkShortener "LINK_SHORTENER" Links "A link hides its target behind a shortener.";
    LinkFreeHosting "LINK_FREE_HOSTING" Links "A link leads to pages that anybody puts up for nothing.";
    LinkUserinfo "LINK_USERINFO" Links "A link shows another host before an at sign.";
    LinkRedirector "LINK_REDIRECTOR" Links "A link goes through somebody's open redirector.";
    LinkRecipient "LINK_RECIPIENT" Links "A link carries the recipient's address.";
    LinkScriptOrData "LINK_SCRIPT_OR_DATA" Links "A link is a script or carries its page in itself.";
    LinkOddPort "LINK_ODD_PORT" Links "A link leads to an unusual port.";
    LinkRandomHost "LINK_RANDOM_HOST" Links "A link's host looks made by chance.";
    QrLink "QR_LINK" Links "A QR code in a picture leads to the web.";
    LinkForeignOnly "LINK_FOREIGN_ONLY" Links "All links lead to one domain that is not the sender's.";

    FormInMail "FORM_IN_MAIL" Markup "The message holds a form.";
    PasswordInMail "PASSWORD_IN_MAIL" Markup "The message asks for a password in itself.";
    ScriptInMail "SCRIPT_IN_MAIL" Markup "The message holds scripts.";
    RefreshInMail "REFRESH_IN_MAIL" Markup "The message leads elsewhere by itself.";
    HiddenText "HIDDEN_TEXT" Markup "Much text is hidden from the reader.";
    BrokenWords "BROKEN_WORDS" Markup "Words are broken by characters nobody sees.";
    OddScriptText "ODD_SCRIPT_TEXT" Markup "Words mix letters of several scripts that look alike.";
    ImageOnly "IMAGE_ONLY" Markup "A picture to click on, and hardly any text.";

    ExecutableAttached "EXECUTABLE_ATTACHED" Attachments "A program or script is attached.";
    ExecutableInArchive "EXECUTABLE_IN_ARCHIVE" Attachments "A program or script is packed into an archive.";
    DoubleExtension "DOUBLE_EXTENSION" Hard "A file that runs has a name that looks harmless.";
    NameTrick "NAME_TRICK" Hard "A file's name is shown in another order than it stands.";
    ShortcutAttached "SHORTCUT_ATTACHED" Attachments "A shortcut that runs something is attached.";
    DiskImageAttached "DISK_IMAGE_ATTACHED" Attachments "A disk image is attached.";
    TypeMismatch "TYPE_MISMATCH" Attachments "A file is of another kind than its name says.";
    MacroDocument "MACRO_DOCUMENT" Attachments "An Office document holds macros.";
    MacroRuns "MACRO_RUNS" Attachments "A macro that runs by itself starts programs or loads files.";
    ExternalTemplate "EXTERNAL_TEMPLATE" Attachments "An Office document loads something from elsewhere.";
    EncryptedAttachment "ENCRYPTED_ATTACHMENT" Attachments "An attachment cannot be opened without a password.";
    PasswordOpens "PASSWORD_OPENS" Attachments "An attachment was opened with a password that the message gives.";
    HtmlAttachment "HTML_ATTACHMENT" Attachments "A web page is attached.";
    HtmlSmuggling "HTML_SMUGGLING" Attachments "An attached page builds or decodes something on the reader's side.";
    HtmlCredentialForm "HTML_CREDENTIAL_FORM" Attachments "An attached page asks for a password.";
    SvgScript "SVG_SCRIPT" Attachments "An attached picture holds scripts.";
    ActivePdf "ACTIVE_PDF" Attachments "An attached PDF runs something.";
    YaraMatch "YARA_MATCH" Attachments "A YARA rule matches an attachment or a file in it.";
    Unscannable "UNSCANNABLE" Attachments "An attachment could not be opened within the limits.";
    Eicar "EICAR" Hard "The EICAR test file.";

    HeloInvalid "HELO_INVALID" Infrastructure "The client's HELO is no host name.";
    HeloOurs "HELO_OURS" Infrastructure "The client calls itself by our own name.";
    ClientDynamic "CLIENT_DYNAMIC" Infrastructure "The client's name is a dial-up or throw-away one.";
    MessageIdMissing "MESSAGE_ID_MISSING" Infrastructure "There is no Message-ID.";
    MessageIdOdd "MESSAGE_ID_ODD" Infrastructure "The Message-ID is not one that mail software makes.";
    DateOdd "DATE_ODD" Infrastructure "The date is missing or far off.";
    ScriptMailer "SCRIPT_MAILER" Infrastructure "It was made by a web site's mail script.";
    FreemailToHidden "FREEMAIL_TO_HIDDEN" Infrastructure "A free mailbox writes to people it does not name.";
    RecipientHidden "RECIPIENT_HIDDEN" Infrastructure "The recipient is not named in To or Cc.";

    AmbiguousStructure "AMBIGUOUS_STRUCTURE" Structure "Different readers see different messages.";
    SeveralSenders "SEVERAL_SENDERS" Structure "Several senders are named.";
    SenderInvalid "SENDER_INVALID" Structure "There is no usable sender.";
    HidingEncoding "HIDING_ENCODING" Structure "An encoding is used that serves to hide.";
    LimitMet "LIMIT_MET" Structure "The message is too large or too deep to be read whole.";

    CredentialWords "CREDENTIAL_WORDS" Wording "It asks to confirm or unlock an account.";
    MailboxWords "MAILBOX_WORDS" Wording "It speaks of a full mailbox, held mail or an expiring password.";
    UrgencyWords "URGENCY_WORDS" Wording "It threatens or sets a short deadline.";
    ParcelWords "PARCEL_WORDS" Wording "It asks for a fee or data for a parcel.";
    PaymentWords "PAYMENT_WORDS" Wording "It speaks of a failed or due payment.";
    FortuneWords "FORTUNE_WORDS" Wording "It promises a fortune, an inheritance or a fund.";
    PrizeWords "PRIZE_WORDS" Wording "It promises a prize or gift.";
    ExtortionWords "EXTORTION_WORDS" Wording "It extorts: recordings, a hacked device, money in coins.";
    CryptoWords "CRYPTO_WORDS" Wording "It speaks of wallets and coins to claim or verify.";
    GiftCardWords "GIFT_CARD_WORDS" Wording "It asks to buy gift cards or for a quick favour.";
    CallbackWords "CALLBACK_WORDS" Wording "It makes the reader call a number about a charge.";
    OfferWords "OFFER_WORDS" Wording "It offers what unasked mail offers: pills, casinos, loans, dates, riches.";

    Campaign "CAMPAIGN" Wording "The same text came from many unrelated senders, or from a stranger to many.";

    MalwareFound "MALWARE_FOUND" Hard "The virus scanner found malware.";
    ListedClient "LISTED_CLIENT" Infrastructure "The client's address is in a block list.";
    ListedSender "LISTED_SENDER" Identity "The sender's domain is in a block list.";
    ListedLink "LISTED_LINK" Links "A link leads to a domain in a block list.";
    UrlBad "URL_BAD" Links "The URL analyser calls a link bad.";
    TextPhishing "TEXT_PHISHING" Wording "The text analyser calls the text phishing.";
    YoungSender "YOUNG_SENDER" Identity "The sender's domain was registered within the last month.";
    YoungLink "YOUNG_LINK" Links "A link leads to a domain registered within the last month.";
    ServiceUnknown "SERVICE_UNKNOWN" Infrastructure "A service that should have been asked gave no answer.";

    AlignedAuthentic "ALIGNED_AUTHENTIC" Trust "The sender's domain is proved.";
    BrandAuthentic "BRAND_AUTHENTIC" Trust "It is from a well-known brand, and that is proved.";
    InThread "IN_THREAD" Trust "It answers an earlier message.";
    ListMail "LIST_MAIL" Trust "It is mail of a list or newsletter that says so and is proved.";
    LoggedIn "LOGGED_IN" Trust "The sender logged in at our own server.";
    LinksOwnDomain "LINKS_OWN_DOMAIN" Trust "Links lead to the sender's own, proved domain.";
    TrustedArc "TRUSTED_ARC" Trust "A trusted forwarder vouches for it.";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One piece of evidence about one message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Signal {
    /// What it is.
    pub code: Code,
    /// What it rests on, short, at most five; not yet defanged.
    pub evidence: Vec<String>,
    /// How much of the full weight it deserves, 0 to 1.
    pub strength: f32,
}

const MAX_EVIDENCE: usize = 5;
const MAX_EVIDENCE_CHARS: usize = 120;

/// Signals while they are gathered: each code once, at its greatest strength.
#[derive(Debug, Default)]
pub(super) struct Signals(Vec<Signal>);

impl From<Vec<Signal>> for Signals {
    fn from(signals: Vec<Signal>) -> Self {
        Self(signals)
    }
}

impl Signals {
    pub(super) fn add(&mut self, code: Code, strength: f32, evidence: impl AsRef<str>) {
        let evidence = evidence.as_ref();
        let plain = evidence.len() <= MAX_EVIDENCE_CHARS && evidence.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        let evidence = match plain {
            true => evidence.to_owned(),
            false => evidence.chars().filter(|c| !c.is_control()).take(MAX_EVIDENCE_CHARS).collect(),
        };
        let place = self.0.iter().position(|signal| signal.code == code).unwrap_or_else(|| {
            self.0.push(Signal { code, evidence: Vec::new(), strength: 0.0 });
            self.0.len() - 1
        });
        let signal = &mut self.0[place];
        signal.strength = signal.strength.max(strength.clamp(0.0, 1.0));
        if !evidence.is_empty() && signal.evidence.len() < MAX_EVIDENCE && !signal.evidence.contains(&evidence) {
            signal.evidence.push(evidence);
        }
    }

    pub(super) fn into_vec(self) -> Vec<Signal> {
        self.0
    }
}
