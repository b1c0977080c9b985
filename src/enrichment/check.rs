//! Settings of the enrichment that can be read and would not do what they say: refused by name, with what to write instead.
//!
//! Only those of what is switched on. Not here: files, addresses and URLs, which are tried when services are made.

use std::collections::HashSet;
use std::net::Ipv4Addr;

use super::{
    BlockListsConfig, CacheConfig, ClamdConfig, Config, RedirectsConfig, SenderAuthConfig, ServiceConfig, TextDialect,
    TextServiceConfig, ZoneConfig,
};
use crate::egress::{WrongSetting, wrong};

/// RFC 1035, 2.3.4: what is left of a name for a zone, with an IPv6 address or a domain before it.
const MAX_ZONE: usize = 180;
const MAX_LABEL: usize = 63;

impl Config {
    /// Whether these settings do what they say.
    ///
    /// # Errors
    /// The first that does not, by its name below `enrichment`.
    pub fn check(&self) -> Result<(), WrongSetting> {
        for (name, service) in self.enabled() {
            service.check().map_err(|error| error.below("service").below(name))?;
        }
        let each = [
            ("clamd", self.clamd.enabled, self.clamd.check()),
            ("sender_auth", self.sender_auth.enabled, self.sender_auth.check()),
            ("block_lists", self.block_lists.enabled, self.block_lists.check()),
            ("text_service", self.text_service.enabled, self.text_service.check()),
            ("redirects", self.redirects.enabled, self.redirects.check()),
        ];
        each.into_iter()
            .filter(|(_, enabled, _)| *enabled)
            .try_for_each(|(name, _, checked)| checked.map_err(|error| error.below(name)))
    }
}

impl ServiceConfig {
    fn check(&self) -> Result<(), WrongSetting> {
        self.call.check().map_err(|error| error.below("call"))
    }
}

impl CacheConfig {
    /// Whether these settings do what they say.
    ///
    /// # Errors
    /// The first that does not, by its name below `cache`.
    pub fn check(&self) -> Result<(), WrongSetting> {
        self.call.check().map_err(|error| error.below("call"))
    }

    /// Whether there is such a cache.
    pub fn is_shared(&self) -> bool {
        !self.url.is_empty() || self.url_file.is_some()
    }
}

impl SenderAuthConfig {
    fn check(&self) -> Result<(), WrongSetting> {
        let no_time = "no question can be answered in no time: write at least 1";
        for (key, time) in [("deadline_ms", self.deadline_ms), ("query_ms", self.query_ms)] {
            if time == 0 {
                return Err(wrong(key, no_time));
            }
        }
        self.breaker.check().map_err(|error| error.below("breaker"))
    }
}

impl ClamdConfig {
    fn check(&self) -> Result<(), WrongSetting> {
        match self.max_stream_bytes {
            0 => Err(wrong("max_stream_bytes", "nothing would be scanned: write at least 1, or enabled = false")),
            _ => Ok(()),
        }
    }
}

impl BlockListsConfig {
    fn check(&self) -> Result<(), WrongSetting> {
        if self.zones.is_empty() {
            return Err(wrong("zones", "there are none: name a list, or write enabled = false"));
        }
        if self.max_domains == 0 {
            return Err(wrong("max_domains", "nothing would be asked: write at least 1, or enabled = false"));
        }
        let mut seen = HashSet::new();
        for zone in &self.zones {
            let name = zone.name.trim_end_matches('.').to_lowercase();
            if !seen.insert((name, zone.of)) {
                return Err(wrong("zones", format!("`{}` is there twice: leave one out", zone.name)));
            }
            zone.check().map_err(|what| wrong("zones", format!("`{}`: {what}", zone.name)))?;
        }
        Ok(())
    }
}

impl ZoneConfig {
    fn check(&self) -> Result<(), String> {
        let is_name = |name: &str| !name.is_empty() && name.len() <= MAX_ZONE && name.split('.').all(is_label);
        if !is_name(self.name.strip_suffix('.').unwrap_or(&self.name)) {
            return Err("`name` is no domain name: write the list's zone, as `zen.example.org`".into());
        }
        for (key, point) in [("test_listed", &self.test_listed), ("test_free", &self.test_free)] {
            if !point.is_empty() && !is_name(point) {
                return Err(format!("`{key}` is no name: write what stands before the zone, as `2.0.0.127`"));
            }
        }
        if self.percent > 100 {
            return Err(format!("`percent` is {}: 100 at most", self.percent));
        }
        let is_code = |code: &str| {
            let octets = code.parse::<Ipv4Addr>().ok()?.octets();
            Some(octets[0] == 127 && octets[..3] != [127, 255, 255])
        };
        match self.codes.keys().find(|code| is_code(code) != Some(true)) {
            Some(code) => Err(format!(
                "`codes` has `{code}`, which no list answers: write addresses of 127.0.0.0/8 (127.255.255.0/24 is always an error)"
            )),
            None => Ok(()),
        }
    }
}

impl TextServiceConfig {
    fn check(&self) -> Result<(), WrongSetting> {
        if self.dialect == TextDialect::Chat && self.model.trim().is_empty() {
            return Err(wrong(
                "model",
                "a chat endpoint has to be told one: write the model's name, or dialect = \"plain\"",
            ));
        }
        for (key, risk) in [("risk_from", self.risk_from), ("risk_to", self.risk_to)] {
            if !(0.0..=100.0).contains(&risk) {
                return Err(wrong(key, format!("a risk is from 0 to 100, not {risk}")));
            }
        }
        if self.risk_from > self.risk_to {
            return Err(wrong(
                "risk_from",
                format!("{} is above risk_to ({}): it would never be asked", self.risk_from, self.risk_to),
            ));
        }
        Ok(())
    }
}

impl RedirectsConfig {
    fn check(&self) -> Result<(), WrongSetting> {
        match self.deadline_ms {
            0 => Err(wrong("deadline_ms", "no link can be followed in no time: write at least 1, or enabled = false")),
            _ => Ok(()),
        }
    }
}

fn is_label(label: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=MAX_LABEL).contains(&label.len()) && label.bytes().all(is_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::enrichment::ZoneOf;

    fn zone(name: &str, codes: &[&str]) -> ZoneConfig {
        ZoneConfig {
            name: name.into(),
            of: ZoneOf::Addresses,
            codes: codes.iter().map(|code| ((*code).to_owned(), "listed".to_owned())).collect(),
            percent: 100,
            test_listed: String::new(),
            test_free: String::new(),
        }
    }

    fn refused(change: impl Fn(&mut Config)) -> String {
        let mut config = Config::default();
        for enabled in [&mut config.clamd.enabled, &mut config.block_lists.enabled, &mut config.text_service.enabled] {
            *enabled = true;
        }
        config.block_lists.zones = vec![zone("base.example", &[])];
        config.check().unwrap();
        change(&mut config);
        config.check().expect_err("refused").to_string()
    }

    #[test]
    fn what_does_not_do_what_it_says_is_named() {
        let call =
            |change: fn(&mut crate::egress::CallConfig)| refused(|config| change(&mut config.clamd.service.call));
        for (told, key) in [
            (call(|call| call.deadline_ms = 0), "clamd.service.call.deadline_ms: "),
            (call(|call| call.concurrent = 0), "clamd.service.call.concurrent: "),
            (call(|call| call.max_answer_bytes = 0), "clamd.service.call.max_answer_bytes: "),
            (call(|call| call.breaker.recovery_seconds = 0), "clamd.service.call.breaker.recovery_seconds: "),
            (call(|call| call.breaker.window_seconds = 0), "clamd.service.call.breaker.window_seconds: "),
            (call(|call| call.breaker.failure_rate = 50.0), "clamd.service.call.breaker.failure_rate: "),
            (call(|call| call.breaker.failure_rate = 0.0), "clamd.service.call.breaker.failure_rate: "),
            (call(|call| call.breaker.failure_rate = f64::NAN), "clamd.service.call.breaker.failure_rate: "),
            (call(|call| call.rate.window_seconds = 0), "clamd.service.call.rate.window_seconds: "),
            (call(|call| call.rate.floor = -3.0), "clamd.service.call.rate.floor: "),
            (refused(|config| config.clamd.max_stream_bytes = 0), "clamd.max_stream_bytes: "),
            (refused(|config| config.block_lists.zones.clear()), "block_lists.zones: "),
            (refused(|config| config.block_lists.max_domains = 0), "block_lists.max_domains: "),
            (refused(|config| config.text_service.risk_from = 70.0), "text_service.risk_from: "),
            (refused(|config| config.text_service.risk_to = f64::NAN), "text_service.risk_to: "),
            (refused(|config| config.text_service.dialect = TextDialect::Chat), "text_service.model: "),
            (refused(|config| config.sender_auth.query_ms = 0), "sender_auth.query_ms: "),
            (
                refused(|config| config.sender_auth.breaker.recovery_seconds = 0),
                "sender_auth.breaker.recovery_seconds: ",
            ),
        ] {
            assert!(told.starts_with(key), "{told}");
        }
    }

    #[test]
    fn zones_are_names_and_codes_are_answers() {
        let with = |zones: &[ZoneConfig]| refused(|config| config.block_lists.zones = zones.to_vec());
        for name in
            ["", ".", "a..b", "a b.example", "https://a.example", "ä.example", &"a".repeat(64), &"a.".repeat(100)]
        {
            assert!(with(&[zone(name, &[])]).contains("is no domain name"), "{name}");
        }
        for code in ["", "2", "128.0.0.2", "10.0.0.1", "127.0.0", "127.255.255.254", "127.0.0.2 "] {
            assert!(with(&[zone("a.example", &["127.0.0.2", code])]).contains("127.0.0.0/8"), "{code}");
        }
        assert!(with(&[zone("a.example", &[]), zone("A.example.", &[])]).contains("twice"));
        let mut good = Config::default();
        good.block_lists.enabled = true;
        // One zone may list addresses and domains.
        let domains = ZoneConfig { of: ZoneOf::Domains, ..zone("a.example", &[]) };
        good.block_lists.zones =
            vec![zone("a.example", &["127.0.0.2", "127.0.1.255"]), zone("_b.example.", &[]), domains];
        good.check().unwrap();
    }

    #[test]
    fn what_is_switched_off_may_say_what_it_likes() {
        let mut config = Config::default();
        config.clamd.service.call.deadline_ms = 0;
        config.text_service.dialect = TextDialect::Chat;
        config.check().unwrap();
    }

    #[test]
    fn the_shared_caches_calls_are_checked_too() {
        let mut cache = CacheConfig::default();
        cache.check().unwrap();
        cache.call.concurrent = 0;
        assert!(cache.check().unwrap_err().to_string().starts_with("call.concurrent: "));
    }
}
