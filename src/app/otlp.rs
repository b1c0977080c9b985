//! Spans to a collector: OTLP over HTTP as JSON (OpenTelemetry protocol 1.x, `/v1/traces`), by a small exporter of our own, so that
//! they go the way of all calls out (`egress`) and bring no second TLS.
//!
//! The trace id is the correlation id. A span that finds the queue full, or whose batch the collector does not take, is counted and
//! gone: nothing ever waits for the export. Not here: logs and metrics over OTLP.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::Context;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context as LayerContext;
use tracing_subscriber::registry::LookupSpan;
use url::Url;

use super::config::OtlpConfig;
use super::spans::count;
use crate::egress::{self, CallConfig, Fence, HttpClient, Names, NamesConfig, Repeat, Request, TlsRoots};
use crate::observe;

/// Takes spans as they end.
pub(super) struct SpanLayer {
    out: mpsc::Sender<Value>,
}

/// What is handed over by the layer to the exporter.
pub(super) type Spans = mpsc::Receiver<Value>;

/// Where the exporter finds what the layer has taken: the layer is set up before there are settings of anything else.
#[derive(Debug, Default)]
pub(super) struct Taken(Mutex<Option<Spans>>);

impl Taken {
    pub(super) fn take(&self) -> Option<Spans> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The layer, and what it gives.
pub(super) fn layer(config: &OtlpConfig) -> (Option<SpanLayer>, Taken) {
    if config.endpoint.is_empty() {
        return (None, Taken::default());
    }
    let (out, spans) = mpsc::channel(config.max_queued_spans.max(1));
    (Some(SpanLayer { out }), Taken(Mutex::new(Some(spans))))
}

/// A span that is open.
struct Open {
    trace: String,
    id: String,
    parent: Option<String>,
    began: SystemTime,
    attributes: Vec<Value>,
}

#[derive(Default)]
struct Fields {
    correlation: Option<String>,
    attributes: Vec<Value>,
}

impl Fields {
    fn add(&mut self, field: &Field, value: String) {
        if field.name() == "correlation" {
            self.correlation = Some(value.clone());
        }
        self.attributes.push(json!({"key": field.name(), "value": {"stringValue": value}}));
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.add(field, format!("{value:?}"));
    }
}

/// Whether an id is a trace id: 32 hexadecimal digits in lower case, not all zero.
fn is_trace(id: &str) -> bool {
    let digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    id.len() == 32 && id.bytes().all(digit) && id.bytes().any(|byte| byte != b'0')
}

impl<S: tracing::Subscriber + for<'s> LookupSpan<'s>> Layer<S> for SpanLayer {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: LayerContext<'_, S>) {
        let Some(span) = context.span(id).filter(|span| span.metadata().target().starts_with("mailweir")) else {
            return;
        };
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let above = span.parent().and_then(|parent| {
            let extensions = parent.extensions();
            extensions.get::<Open>().map(|open| (open.trace.clone(), open.id.clone()))
        });
        let (trace, parent) = above.unzip();
        let trace = trace.or(fields.correlation.filter(|id| is_trace(id))).unwrap_or_else(observe::correlation);
        let id = observe::correlation()[..16].to_owned();
        let open = Open { trace, id, parent, began: SystemTime::now(), attributes: fields.attributes };
        span.extensions_mut().insert(open);
    }

    fn on_close(&self, id: Id, context: LayerContext<'_, S>) {
        let Some(span) = context.span(&id) else { return };
        let Some(open) = span.extensions_mut().remove::<Open>() else { return };
        let nanos =
            |at: SystemTime| at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos().to_string();
        let span = json!({
            "traceId": open.trace, "spanId": open.id, "parentSpanId": open.parent.unwrap_or_default(),
            "name": span.name(), "kind": 1, "attributes": open.attributes,
            "startTimeUnixNano": nanos(open.began), "endTimeUnixNano": nanos(SystemTime::now()),
        });
        if self.out.try_send(span).is_err() {
            count("dropped", 1);
        }
    }
}

/// Gives spans to the collector.
pub(super) struct Exporter {
    client: HttpClient,
    url: Url,
    spans: Spans,
    config: OtlpConfig,
    node: String,
}

/// The collector's URL, its host, and whom its certificate is checked against.
///
/// # Errors
/// Names the setting that cannot be used.
pub(super) fn collector(config: &OtlpConfig) -> anyhow::Result<(Url, String, TlsRoots)> {
    let url = Url::parse(&config.endpoint).context("otlp.endpoint")?;
    let host = url.host_str().context("otlp.endpoint names no host")?.trim_matches(['[', ']']).to_owned();
    let roots = TlsRoots::load(config.ca_file.as_deref()).context("otlp.ca_file")?;
    Ok((url, host, roots))
}

impl Exporter {
    /// The exporter of what the layer takes; `None` when nothing is exported.
    ///
    /// # Errors
    /// Names the setting that cannot be used.
    pub(super) fn new(
        config: &OtlpConfig,
        taken: &Taken,
        dependencies: &egress::Registry,
        node: String,
    ) -> anyhow::Result<Option<Self>> {
        let Some(spans) = taken.take() else { return Ok(None) };
        let (url, host, roots) = collector(config)?;
        let call = CallConfig { deadline_ms: config.deadline_ms, concurrent: 1, ..CallConfig::default() };
        let names = NamesConfig {
            resolvers: Vec::new(),
            query: call.deadline() / 2,
            cache_entries: 16,
            cache_max: Duration::from_secs(300),
        };
        let dependency = dependencies.dependency("otlp", &call);
        let client = HttpClient::new(dependency, Names::new(&names)?, Fence::allowing([]), [host], &roots, 0)?;
        Ok(Some(Self { client, url, spans, config: config.clone(), node }))
    }

    /// Runs until `stop`: then it takes no more spans, gives the collector those that are there, and returns.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let most = self.config.max_batch_spans.max(1);
        let mut batch = Vec::with_capacity(most);
        loop {
            if stop.is_cancelled() {
                self.spans.close();
            }
            tokio::select! {
                () = stop.cancelled(), if !self.spans.is_closed() => continue,
                count = self.spans.recv_many(&mut batch, most) => if count == 0 { return },
            }
            let more = async {
                while batch.len() < most {
                    let left = most - batch.len();
                    if self.spans.recv_many(&mut batch, left).await == 0 {
                        return;
                    }
                }
            };
            // Nothing is lost by the end of the wait: what was received is in the batch.
            tokio::select! {
                _ = tokio::time::timeout(Duration::from_millis(self.config.linger_ms), more) => {}
                () = stop.cancelled() => {}
            }
            let spans = std::mem::take(&mut batch);
            let count_of = spans.len();
            let request = Request::post_json(self.url.clone(), body(&self.node, spans).to_string());
            // Not inside a span: what the export does is not exported.
            let outcome = match self.client.call(Repeat::Never, None, &request, |_| Ok(())).await {
                Ok(()) => "exported",
                Err(failure) => {
                    tracing::debug!(%failure, spans = count_of, "the collector does not take spans");
                    "failed"
                }
            };
            count(outcome, count_of);
        }
    }
}

fn body(node: &str, spans: Vec<Value>) -> Value {
    let text = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
    let version = env!("CARGO_PKG_VERSION");
    json!({"resourceSpans": [{
        "resource": {"attributes": [
            text("service.name", "mailweir"), text("service.version", version), text("service.instance.id", node),
        ]},
        "scopeSpans": [{"scope": {"name": "mailweir", "version": version}, "spans": spans}],
    }]})
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[test]
    fn spans_have_the_correlation_as_trace_and_a_full_queue_drops_them() {
        let config =
            OtlpConfig { endpoint: "http://collector.example/".into(), max_queued_spans: 2, ..OtlpConfig::default() };
        let (layer, taken) = layer(&config);
        let mut spans = taken.take().unwrap();
        assert!(taken.take().is_none(), "once");
        let correlation = observe::correlation();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let outer = tracing::info_span!(target: "mailweir::gateway", "milter", correlation);
            let inner = tracing::info_span!(target: "mailweir::gateway", parent: &outer, "message", id = 7);
            drop(tracing::info_span!(target: "other", "of a library"));
            drop(inner);
            drop(outer);
            drop(tracing::info_span!(target: "mailweir::gateway", "one too many"));
        });
        let (message, milter) = (spans.try_recv().unwrap(), spans.try_recv().unwrap());
        assert!(spans.try_recv().is_err());
        assert_eq!((&message["name"], &milter["name"]), (&"message".into(), &"milter".into()));
        assert_eq!(
            (&message["traceId"], &milter["traceId"]),
            (&correlation.as_str().into(), &correlation.as_str().into())
        );
        assert_eq!(message["parentSpanId"], milter["spanId"]);
        assert_eq!(message["attributes"][0]["value"]["stringValue"], "7");
    }

    #[test]
    fn ids_of_strangers_are_no_traces() {
        assert!(is_trace(&"a1".repeat(16)));
        for id in ["deploy-42", &"0".repeat(32), &"A1".repeat(16), &"a".repeat(31)] {
            assert!(!is_trace(id), "{id}");
        }
    }
}
