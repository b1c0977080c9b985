//! Metrics of the inspection.

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

use crate::analysis::Code;
use crate::content::Yara;
use crate::mail::Message;
use crate::policy::{Reason, RuleFindings, RuleMode, RuleSet};
use crate::records::{Change, Record};

/// Counters and histograms of the inspection; declared here, with help, and nowhere else.
#[derive(Debug)]
pub struct Metrics {
    pub(super) messages: IntCounterVec,
    pub(super) verdicts: IntCounterVec,
    pub(super) stage_seconds: HistogramVec,
    pub(super) risk: Histogram,
    pub(super) size_bytes: Histogram,
    pub(super) degraded: IntCounterVec,
    pub(super) rule_matches: IntCounterVec,
    pub(super) rules_undecided: IntCounterVec,
    pub(super) second_looks: IntCounterVec,
    pub(super) second_verdicts: IntCounterVec,
    pub(super) not_looked_at_again: IntCounterVec,
    pub(super) panics: IntCounter,
    pub(super) in_flight: IntGauge,
    signals: IntCounterVec,
    reasons: IntCounterVec,
    links: Histogram,
    attachments: Histogram,
    recipients: Histogram,
    rules_loaded: IntGaugeVec,
    yara_rules_loaded: IntGauge,
}

impl Metrics {
    /// Declares them at a registry.
    ///
    /// # Errors
    /// When one of the names is taken.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let stages = vec![
            0.000_05, 0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 2.0, 3.0, 4.0, 4.5,
            5.0,
        ];
        let metrics = Self {
            messages: IntCounterVec::new(
                Opts::new("mailweir_messages_total", "Messages judged, by door and by what was done with the whole."),
                &["door", "action"],
            )?,
            verdicts: IntCounterVec::new(
                Opts::new("mailweir_verdicts_total", "Verdicts, one a recipient, by tenant and action."),
                &["tenant", "action"],
            )?,
            stage_seconds: HistogramVec::new(
                HistogramOpts::new("mailweir_stage_seconds", "Time of each stage of the inspection.").buckets(stages),
                &["stage"],
            )?,
            risk: Histogram::with_opts(
                HistogramOpts::new("mailweir_risk", "Risk of judged messages, 0 to 100.")
                    .buckets(vec![1.0, 5.0, 10.0, 20.0, 30.0, 45.0, 60.0, 75.0, 90.0, 95.0, 99.0]),
            )?,
            size_bytes: Histogram::with_opts(
                HistogramOpts::new("mailweir_message_size_bytes", "Size of judged messages.")
                    .buckets(prometheus::exponential_buckets(64.0, 4.0, 11)?),
            )?,
            degraded: IntCounterVec::new(
                Opts::new("mailweir_degraded_total", "Messages judged without something, by what and why."),
                &["what", "why"],
            )?,
            rule_matches: IntCounterVec::new(
                Opts::new("mailweir_rule_matches_total", "Matches of rules, by mode of the rule."),
                &["mode"],
            )?,
            rules_undecided: IntCounterVec::new(
                Opts::new("mailweir_rules_undecided_total", "Rules left undecided, by what was not there."),
                &["capability"],
            )?,
            second_looks: IntCounterVec::new(
                Opts::new("mailweir_second_looks_total", "Messages that are to be looked at again, by reason."),
                &["reason"],
            )?,
            second_verdicts: IntCounterVec::new(
                Opts::new("mailweir_second_verdicts_total", "Messages looked at again, by how the verdict changed."),
                &["change"],
            )?,
            not_looked_at_again: IntCounterVec::new(
                Opts::new("mailweir_second_looks_dropped_total", "Second looks that cannot be, by reason."),
                &["reason"],
            )?,
            panics: IntCounter::new("mailweir_panics_total", "Judgements that broke down and were answered 451.")?,
            in_flight: IntGauge::new("mailweir_inspections_in_flight", "Messages being judged now.")?,
            signals: IntCounterVec::new(
                Opts::new("mailweir_signals_total", "Terms of the score that a detector gave, by its signal."),
                &["signal"],
            )?,
            reasons: IntCounterVec::new(
                Opts::new("mailweir_verdict_reasons_total", "Verdicts, one a recipient, by what decided."),
                &["reason"],
            )?,
            links: few("mailweir_message_links", "Links in a judged message.")?,
            attachments: few("mailweir_message_attachments", "Attachments of a judged message.")?,
            recipients: few("mailweir_message_recipients", "Recipients of a judged message.")?,
            rules_loaded: IntGaugeVec::new(
                Opts::new("mailweir_rules_loaded", "Rules that are loaded, by mode."),
                &["mode"],
            )?,
            yara_rules_loaded: IntGauge::new("mailweir_yara_rules_loaded", "YARA rules that are loaded.")?,
        };
        registry.register(Box::new(metrics.messages.clone()))?;
        registry.register(Box::new(metrics.verdicts.clone()))?;
        registry.register(Box::new(metrics.stage_seconds.clone()))?;
        registry.register(Box::new(metrics.risk.clone()))?;
        registry.register(Box::new(metrics.size_bytes.clone()))?;
        registry.register(Box::new(metrics.degraded.clone()))?;
        registry.register(Box::new(metrics.rule_matches.clone()))?;
        registry.register(Box::new(metrics.rules_undecided.clone()))?;
        registry.register(Box::new(metrics.second_looks.clone()))?;
        registry.register(Box::new(metrics.second_verdicts.clone()))?;
        registry.register(Box::new(metrics.not_looked_at_again.clone()))?;
        registry.register(Box::new(metrics.panics.clone()))?;
        registry.register(Box::new(metrics.in_flight.clone()))?;
        registry.register(Box::new(metrics.signals.clone()))?;
        registry.register(Box::new(metrics.reasons.clone()))?;
        registry.register(Box::new(metrics.links.clone()))?;
        registry.register(Box::new(metrics.attachments.clone()))?;
        registry.register(Box::new(metrics.recipients.clone()))?;
        registry.register(Box::new(metrics.rules_loaded.clone()))?;
        registry.register(Box::new(metrics.yara_rules_loaded.clone()))?;
        metrics.show();
        Ok(metrics)
    }

    /// Shows at zero what comes from closed sets, so that a first increase is seen.
    fn show(&self) {
        for code in Code::ALL {
            self.signals.with_label_values(&[code.as_str()]);
        }
        for mode in ["enforce", "shadow"] {
            self.rule_matches.with_label_values(&[mode]);
        }
        // Shown from the start, also where nothing is looked at again.
        for reason in ["degraded", "grey", "first_contact", "campaign", "rule", "undecided", "sample"] {
            self.second_looks.with_label_values(&[reason]);
        }
        for change in [Change::Same, Change::Worse, Change::Better] {
            self.second_verdicts.with_label_values(&[change.as_str()]);
        }
        for reason in ["too_large", "busy", "no_room", "store", "gone"] {
            self.not_looked_at_again.with_label_values(&[reason]);
        }
    }

    /// Counts what a message was made of.
    pub(super) fn saw(&self, message: &Message) {
        self.links.observe(message.links().len() as f64);
        self.attachments.observe(message.attachments().count() as f64);
    }

    /// Counts what decided, and the signals that had a part in it.
    pub(super) fn count_reasons(&self, record: &Record) {
        self.recipients.observe(record.envelope.recipients.len() as f64);
        for term in &record.score.terms {
            self.signals.with_label_values(&[term.code.as_str()]).inc();
        }
        for one in &record.verdicts {
            self.reasons.with_label_values(&[word(&one.verdict.reason)]).inc();
        }
    }

    /// Shows how many rules are in effect.
    pub(super) fn loaded(&self, rules: &RuleSet, yara: Option<&Yara>) {
        let count = yara.map_or(0, Yara::rules);
        self.yara_rules_loaded.set(i64::try_from(count).unwrap_or(i64::MAX));
        for (mode, name) in [(RuleMode::Enforce, "enforce"), (RuleMode::Shadow, "shadow"), (RuleMode::Off, "off")] {
            let count = rules.rules().iter().filter(|rule| rule.mode == mode).count();
            self.rules_loaded.with_label_values(&[name]).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// Counts what the rules found in one message.
    pub(super) fn count_rules(&self, found: &RuleFindings) {
        for one in &found.matches {
            let mode = if one.mode == RuleMode::Enforce { "enforce" } else { "shadow" };
            self.rule_matches.with_label_values(&[mode]).inc();
        }
        for (capability, count) in &found.undecided {
            self.rules_undecided.with_label_values(&[capability]).inc_by(*count as u64);
        }
    }
}

fn few(name: &str, help: &str) -> Result<Histogram, prometheus::Error> {
    let buckets = vec![0.0, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0, 100.0, 250.0];
    Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets))
}

/// The word of a reason in metrics and logs: never the name of a list or of a signature.
pub(super) fn word(reason: &Reason) -> &'static str {
    match reason {
        Reason::Score => "score",
        Reason::Gtube => "gtube",
        Reason::BlockList(_) => "block_list",
        Reason::AllowList(_) => "allow_list",
        Reason::Malware(_) => "malware",
        Reason::Unjudged => "unjudged",
        Reason::Unasked => "unasked",
        Reason::Waiting => "waiting",
    }
}
