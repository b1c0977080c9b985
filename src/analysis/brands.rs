//! Widely impersonated brands: the names they go by and the domains they own. Facts, gathered by us.
//!
//! A name that is also an ordinary word or a person's name is marked: it counts only when it stands alone or beside a
//! word of service ("Chase Alerts", not "Chase Miller"). A brand's name under a country suffix counts as its own.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::hosts::names_above;

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

impl Brand {
    /// The brand's name.
    pub(super) fn name(&self) -> &'static str {
        self.names[0].trim_start_matches('~')
    }
}

/// Brands by their places in [`BRANDS`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct BrandSet([u64; BRANDS.len().div_ceil(64)]);

impl BrandSet {
    pub(super) fn all() -> Self {
        let mut all = Self::default();
        (0..BRANDS.len()).for_each(|place| all.insert(place));
        all
    }

    pub(super) fn insert(&mut self, place: usize) {
        self.0[place / 64] |= 1 << (place % 64);
    }

    pub(super) fn contains(&self, place: usize) -> bool {
        self.0[place / 64] & (1 << (place % 64)) != 0
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// Places in the order of the table.
    pub(super) fn places(&self) -> impl Iterator<Item = usize> {
        (0..BRANDS.len()).filter(|place| self.contains(*place))
    }

    /// The first in the order of the table.
    pub(super) fn first(&self) -> Option<usize> {
        if self.is_empty() { None } else { self.places().next() }
    }

    fn each(self, other: Self, with: impl Fn(u64, u64) -> u64) -> Self {
        Self(std::array::from_fn(|at| with(self.0[at], other.0[at])))
    }

    pub(super) fn or(self, other: Self) -> Self {
        self.each(other, |a, b| a | b)
    }

    pub(super) fn and(self, other: Self) -> Self {
        self.each(other, |a, b| a & b)
    }

    pub(super) fn without(self, other: Self) -> Self {
        self.each(other, |a, b| a & !b)
    }
}

/// By domain, and by the label in front of its suffix.
struct Owners {
    domains: HashMap<&'static str, BrandSet>,
    labels: HashMap<&'static str, BrandSet>,
}

static OWNERS: LazyLock<Owners> = LazyLock::new(|| {
    let (mut domains, mut labels) = (HashMap::<_, BrandSet>::new(), HashMap::<_, BrandSet>::new());
    for (place, brand) in BRANDS.iter().enumerate() {
        for domain in brand.domains {
            domains.entry(*domain).or_default().insert(place);
            labels.entry(domain.split('.').next().unwrap_or_default()).or_default().insert(place);
        }
    }
    Owners { domains, labels }
});

/// The brands a host belongs to: it is under one of their domains, or has their bare name under a country's suffix.
/// `domain` is the host's registrable one.
pub(super) fn owners(host: &str, domain: Option<&str>) -> BrandSet {
    let known = |name| OWNERS.domains.get(name).copied();
    let mut owners = names_above(host).filter_map(known).fold(BrandSet::default(), BrandSet::or);
    let Some((label, suffix)) = domain.and_then(|domain| domain.split_once('.')) else { return owners };
    let country = suffix.rsplit('.').next().is_some_and(|tld| tld.len() == 2);
    let cheap = matches!(suffix, "tk" | "ml" | "ga" | "cf" | "gq" | "cc" | "pw" | "ws" | "su" | "co" | "me");
    if country
        && !cheap
        && let Some(named) = OWNERS.labels.get(label)
    {
        owners = owners.or(*named);
    }
    owners
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::registrable_domain;

    fn owns(name: &str, host: &str) -> bool {
        let place = BRANDS.iter().position(|b| b.name() == name).unwrap();
        owners(host, registrable_domain(host)).contains(place)
    }

    #[test]
    fn names_and_domains() {
        assert!(owns("amazon", "mail.amazon.co.jp") && owns("amazon", "amazon.de"));
        assert!(!owns("amazon", "amazon.tk") && !owns("amazon", "amazon.xyz") && !owns("amazon", "myamazon.com"));
        assert!(owns("paypal", "paypal.com") && !owns("paypal", "paypal.com.evil.example"));
        assert!(owns("apple", "id.apple.com") && !owns("apple", "com") && owners("", None).is_empty());
    }

    #[test]
    fn every_brand_has_its_own_domains() {
        for brand in BRANDS {
            for domain in brand.domains {
                assert!(owns(brand.name(), domain), "{domain}");
            }
            for name in brand.names {
                assert_eq!(*name, name.to_lowercase());
            }
        }
    }

    #[test]
    fn sets() {
        let (mut odd, mut low) = (BrandSet::default(), BrandSet::default());
        (1..BRANDS.len()).step_by(2).for_each(|place| odd.insert(place));
        (0..70).for_each(|place| low.insert(place));
        assert_eq!(odd.and(low).places().count(), 35);
        assert_eq!(low.without(odd).first(), Some(0));
        assert_eq!(odd.without(low).first(), Some(71));
        assert!(BrandSet::all().without(odd).and(odd).is_empty() && BrandSet::default().first().is_none());
    }
}
