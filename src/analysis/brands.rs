//! Widely impersonated brands: the names they go by and the domains they own. Facts, gathered by us.
//!
//! A name that is also an ordinary word or a person's name is marked: it counts only when it stands alone or beside a
//! word of service ("Chase Alerts", not "Chase Miller"). A brand's name under a country suffix counts as its own.

use crate::mail::registrable_domain;

/// A brand.
#[derive(Debug, Clone, Copy)]
pub(super) struct Brand {
    /// Names in lower case, the first is the brand's; `~` in front: an ordinary word as well.
    pub(super) names: &'static [&'static str],
    /// Registrable domains.
    pub(super) domains: &'static [&'static str],
}

macro_rules! brands {
    ($([$($name:literal),+] [$($domain:literal),+];)+) => {
        pub(super) const BRANDS: &[Brand] = &[$(Brand { names: &[$($name),+], domains: &[$($domain),+] },)+];
    };
}

brands! {
    ["microsoft", "office 365", "office365", "microsoft 365", "onedrive", "sharepoint", "~outlook", "~teams", "~azure"]
        ["microsoft.com", "microsoftonline.com", "office.com", "office365.com", "outlook.com", "live.com", "sharepoint.com", "azure.com", "windows.net", "onmicrosoft.com", "hotmail.com", "microsoftemail.com", "msn.com", "skype.com", "xbox.com", "office.net", "aka.ms", "1drv.ms", "live.net"];
    ["google", "gmail", "google drive", "youtube"] ["google.com", "gmail.com", "youtube.com", "googlemail.com", "googlegroups.com", "googleapis.com", "goo.gl", "withgoogle.com", "blogger.com", "googleusercontent.com", "g.co"];
    ["~apple", "icloud", "itunes", "apple id", "app store"] ["apple.com", "icloud.com", "me.com", "mac.com", "itunes.com"];
    ["amazon", "amazon prime", "aws"] ["amazon.com", "amazonaws.com", "amazonses.com", "amazon.jobs", "primevideo.com", "audible.com", "kindle.com", "awsapps.com"];
    ["paypal"] ["paypal.com", "paypal-communication.com", "paypalobjects.com", "paypal-customerfeedback.com", "venmo.com"];
    ["netflix"] ["netflix.com"];
    ["facebook", "~meta", "instagram", "whatsapp", "meta business"] ["facebook.com", "facebookmail.com", "meta.com", "instagram.com", "whatsapp.com", "fb.com", "metamail.com", "fbcdn.net", "fb.me"];
    ["linkedin"] ["linkedin.com", "lnkd.in", "licdn.com"];
    ["twitter"] ["twitter.com", "x.com", "t.co"];
    ["tiktok"] ["tiktok.com"];
    ["telegram"] ["telegram.org", "t.me"];
    ["dhl", "dhl express"] ["dhl.com", "dhl.de", "dpdhl.com", "deutschepost.de"];
    ["fedex"] ["fedex.com"];
    ["~ups"] ["ups.com"];
    ["usps", "us postal service", "u.s. postal"] ["usps.com", "usps.gov"];
    ["royal mail", "royalmail"] ["royalmail.com"];
    ["evri", "~hermes"] ["evri.com", "hermesworld.com", "myhermes.co.uk"];
    ["dpd"] ["dpd.com", "dpd.de", "dpdgroup.com"];
    ["postnl"] ["postnl.nl", "postnl.com"];
    ["correios"] ["correios.com.br"];
    ["la poste", "colissimo", "chronopost"] ["laposte.fr", "laposte.net", "chronopost.fr", "colissimo.fr"];
    ["swiss post", "~la posta", "die post", "~swisspost"] ["post.ch"];
    ["australia post", "auspost"] ["auspost.com.au"];
    ["canada post"] ["canadapost.ca", "canadapost-postescanada.ca"];
    ["adobe", "adobe sign", "acrobat sign"] ["adobe.com", "adobesign.com", "echosign.com"];
    ["docusign"] ["docusign.com", "docusign.net"];
    ["dropbox"] ["dropbox.com", "dropboxmail.com", "hellosign.com"];
    ["wetransfer"] ["wetransfer.com"];
    ["~zoom", "zoom meeting"] ["zoom.us", "zoom.com"];
    ["github"] ["github.com"];
    ["binance"] ["binance.com", "binance.us"];
    ["coinbase"] ["coinbase.com"];
    ["kraken", "~kraken"] ["kraken.com"];
    ["metamask"] ["metamask.io", "consensys.net", "consensys.io"];
    ["trezor"] ["trezor.io", "satoshilabs.com"];
    ["~ledger", "ledger live"] ["ledger.com", "ledger.fr"];
    ["trust wallet", "trustwallet"] ["trustwallet.com"];
    ["blockchain.com", "~blockchain"] ["blockchain.com", "blockchain.info"];
    ["crypto.com"] ["crypto.com"];
    ["bitpanda"] ["bitpanda.com"];
    ["~chase", "jpmorgan"] ["chase.com", "jpmorgan.com", "jpmchase.com", "jpmorganchase.com"];
    ["bank of america", "bankofamerica"] ["bankofamerica.com", "bofa.com"];
    ["wells fargo", "wellsfargo"] ["wellsfargo.com"];
    ["citibank"] ["citi.com", "citibank.com", "citigroup.com"];
    ["capital one"] ["capitalone.com"];
    ["american express", "~amex"] ["americanexpress.com", "aexp.com"];
    ["mastercard"] ["mastercard.com", "mastercard.us"];
    ["~visa"] ["visa.com"];
    ["hsbc"] ["hsbc.com", "hsbc.co.uk"];
    ["barclays"] ["barclays.com", "barclays.co.uk", "barclaycard.co.uk"];
    ["lloyds bank"] ["lloydsbank.co.uk", "lloydsbank.com"];
    ["natwest"] ["natwest.com"];
    ["santander"] ["santander.com", "santander.co.uk", "santander.com.br", "gruposantander.com"];
    ["bbva"] ["bbva.com", "bbva.es"];
    ["caixabank"] ["caixabank.com", "caixabank.es"];
    ["~ing", "ing-diba"] ["ing.com", "ing.de", "ing.nl"];
    ["rabobank"] ["rabobank.nl", "rabobank.com"];
    ["abn amro"] ["abnamro.nl", "abnamro.com"];
    ["bunq"] ["bunq.com"];
    ["deutsche bank"] ["db.com", "deutsche-bank.de"];
    ["commerzbank", "comdirect"] ["commerzbank.com", "commerzbank.de", "comdirect.de"];
    ["sparkasse", "s-pushtan", "pushtan"] ["sparkasse.de"];
    ["volksbank", "raiffeisenbank", "vr-bank", "volksbanken"] ["volksbank.de", "vr.de", "raiffeisen.at", "raiffeisen.ch", "atruvia.de"];
    ["postbank"] ["postbank.de"];
    ["n26"] ["n26.com"];
    ["targobank"] ["targobank.de"];
    ["dkb"] ["dkb.de"];
    ["advanzia"] ["advanzia.com"];
    ["postfinance"] ["postfinance.ch"];
    ["ubs"] ["ubs.com"];
    ["klarna"] ["klarna.com", "klarna.de"];
    ["bnp paribas"] ["bnpparibas.com", "bnpparibas.net"];
    ["crédit agricole", "credit agricole"] ["credit-agricole.fr", "ca-cib.com"];
    ["société générale", "societe generale"] ["societegenerale.com", "socgen.com", "societegenerale.fr"];
    ["unicredit"] ["unicredit.it", "unicreditgroup.eu"];
    ["intesa sanpaolo"] ["intesasanpaolo.com"];
    ["itaú", "itaucard", "banco itau"] ["itau.com.br", "itau-unibanco.com.br"];
    ["bradesco"] ["bradesco.com.br"];
    ["nubank"] ["nubank.com.br"];
    ["banco do brasil"] ["bb.com.br"];
    ["serasa"] ["serasa.com.br", "serasaexperian.com.br"];
    ["livelo"] ["livelo.com.br"];
    ["detran"] ["sp.gov.br", "detran.sp.gov.br"];
    ["mercado livre", "mercadolivre", "mercado pago", "mercadopago"] ["mercadolivre.com.br", "mercadopago.com", "mercadolibre.com", "mercadopago.com.br", "mercadolivre.com"];
    ["magalu", "magazine luiza"] ["magazineluiza.com.br", "magalu.com.br", "magalu.com"];
    ["ebay"] ["ebay.com", "ebay.de"];
    ["walmart"] ["walmart.com"];
    ["costco"] ["costco.com"];
    ["sam's club", "sams club"] ["samsclub.com"];
    ["home depot"] ["homedepot.com"];
    ["lowe's", "~lowes"] ["lowes.com"];
    ["kohl's", "~kohls"] ["kohls.com"];
    ["ace hardware"] ["acehardware.com"];
    ["harbor freight"] ["harborfreight.com"];
    ["dick's sporting goods"] ["dickssportinggoods.com"];
    ["cvs pharmacy"] ["cvs.com"];
    ["walgreens"] ["walgreens.com"];
    ["starbucks"] ["starbucks.com"];
    ["lidl"] ["lidl.de", "lidl.com"];
    ["aldi"] ["aldi.com", "aldi-sued.de", "aldi-nord.de"];
    ["ikea"] ["ikea.com"];
    ["alibaba", "aliexpress"] ["alibaba.com", "aliexpress.com", "alibaba-inc.com"];
    ["temu"] ["temu.com", "temuemail.com"];
    ["shein"] ["shein.com"];
    ["spotify"] ["spotify.com"];
    ["disney+", "disney plus", "disneyplus"] ["disneyplus.com", "disney.com"];
    ["~steam", "steam support"] ["steampowered.com", "valvesoftware.com", "steamcommunity.com"];
    ["~norton", "norton lifelock", "norton antivirus"] ["norton.com", "nortonlifelock.com", "gen.com"];
    ["mcafee"] ["mcafee.com"];
    ["geek squad", "best buy"] ["bestbuy.com", "geeksquad.com"];
    ["godaddy"] ["godaddy.com", "secureserver.net"];
    ["ionos", "~1&1"] ["ionos.com", "ionos.de", "1und1.de", "1and1.com"];
    ["strato"] ["strato.de"];
    ["ovhcloud"] ["ovh.com", "ovh.net", "ovhcloud.com"];
    ["telekom", "t-online", "magentazuhause"] ["telekom.de", "t-online.de", "telekom.com", "magenta.at"];
    ["vodafone"] ["vodafone.de", "vodafone.com", "vodafone.co.uk"];
    ["at&t"] ["att.com", "att.net", "att-mail.com"];
    ["verizon"] ["verizon.com", "verizonwireless.com"];
    ["xfinity", "comcast"] ["xfinity.com", "comcast.net", "comcast.com"];
    ["~orange", "orange bank"] ["orange.fr", "orange.com"];
    ["booking.com"] ["booking.com"];
    ["airbnb"] ["airbnb.com"];
    ["~irs", "internal revenue service"] ["irs.gov"];
    ["hmrc"] ["hmrc.gov.uk", "service.gov.uk"];
    ["ameli", "assurance maladie"] ["ameli.fr", "assurance-maladie.fr"];
    ["digid", "belastingdienst"] ["digid.nl", "belastingdienst.nl"];
    ["elster", "~finanzamt"] ["elster.de", "bund.de"];
    ["yahoo"] ["yahoo.com", "yahooinc.com", "aol.com"];
    ["cpanel"] ["cpanel.net", "cpanel.com"];
    ["roundcube"] ["roundcube.net"];
    ["zimbra"] ["zimbra.com"];
    ["wise.com", "transferwise"] ["wise.com"];
    ["western union"] ["westernunion.com"];
    ["moneygram"] ["moneygram.com"];
    ["revolut"] ["revolut.com"];
    ["stripe", "~stripe"] ["stripe.com"];
    ["shopify"] ["shopify.com"];
    ["intuit", "quickbooks"] ["intuit.com", "quickbooks.com"];
    ["state farm"] ["statefarm.com"];
    ["adac"] ["adac.de"];
}

/// Words of service beside which an ordinary word is a brand.
const SERVICE: &[&str] = &[
    "support",
    "team",
    "service",
    "services",
    "security",
    "account",
    "accounts",
    "alert",
    "alerts",
    "bank",
    "online",
    "delivery",
    "notification",
    "notifications",
    "rewards",
    "customer",
    "care",
    "billing",
    "id",
    "center",
    "help",
    "card",
    "update",
    "verification",
    "kundenservice",
    "sicherheit",
    "express",
    "store",
    "shipment",
    "tracking",
    "mail",
    "wallet",
];

impl Brand {
    /// The brand's name.
    pub(super) fn name(&self) -> &'static str {
        self.names[0].trim_start_matches('~')
    }

    /// Whether a host belongs to the brand: one of its domains, or its bare name under a country's suffix.
    pub(super) fn owns(&self, host: &str) -> bool {
        if self.domains.iter().any(|d| host.strip_suffix(d).is_some_and(|r| r.is_empty() || r.ends_with('.'))) {
            return true;
        }
        let Some(domain) = registrable_domain(host) else { return false };
        let Some((label, suffix)) = domain.split_once('.') else { return false };
        let country = suffix.rsplit('.').next().is_some_and(|tld| tld.len() == 2);
        let cheap = matches!(suffix, "tk" | "ml" | "ga" | "cf" | "gq" | "cc" | "pw" | "ws" | "su" | "co" | "me");
        country && !cheap && self.domains.iter().any(|d| d.split('.').next() == Some(label))
    }

    /// Whether a name in lower case speaks for the brand; the strength.
    pub(super) fn in_name(&self, text: &str) -> bool {
        self.names.iter().any(|name| match name.strip_prefix('~') {
            Some(word) => {
                text == word || (has_word(text, word) && SERVICE.iter().any(|service| has_word(text, service)))
            }
            None => has_word(text, name),
        })
    }
}

/// Whether the word (or words) stands in the text with no letter or digit on either side.
pub(super) fn has_word(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + word.len()..].chars().next();
        !before.is_some_and(char::is_alphanumeric) && !after.is_some_and(char::is_alphanumeric)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_domains() {
        let brand = |name: &str| BRANDS.iter().find(|b| b.name() == name).unwrap();
        assert!(brand("paypal").in_name("paypal service") && !brand("paypal").in_name("paypalooza"));
        assert!(brand("chase").in_name("chase alerts") && brand("chase").in_name("chase"));
        assert!(!brand("chase").in_name("chase miller"));
        assert!(brand("amazon").owns("mail.amazon.co.jp") && brand("amazon").owns("amazon.de"));
        assert!(!brand("amazon").owns("amazon.tk") && !brand("amazon").owns("amazon.xyz"));
        assert!(brand("paypal").owns("paypal.com") && !brand("paypal").owns("paypal.com.evil.example"));
    }

    #[test]
    fn every_brand_has_its_own_domains() {
        for brand in BRANDS {
            for domain in brand.domains {
                assert!(brand.owns(domain), "{domain}");
            }
            for name in brand.names {
                assert_eq!(*name, name.to_lowercase());
            }
        }
    }
}
