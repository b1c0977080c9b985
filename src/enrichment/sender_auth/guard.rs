//! The resolver as a dependency: while it answers nothing, nobody waits for it.
//!
//! That what a sender's domains should say does not come says nothing about the resolver: senders choose their domains, and
//! could switch off the checks of everybody else. So when an answer is missing the resolver is asked for a name that cannot
//! exist (RFC 6761, 6.2; `.invalid` our own library answers); only when it does not know even that, it has failed.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::analysis::{Facts, Why};
use crate::egress::{CallConfig, Dependency, Failure, Names, NamesConfig, NamesError, RateConfig, Repeat, RetryConfig};
use crate::enrichment::SenderAuthConfig;
use crate::enrichment::services::{Outside, RESOLVER, why};

/// Time for the name that cannot exist.
const PATIENCE: Duration = Duration::from_millis(500);

pub(super) struct Guard {
    dependency: Arc<Dependency>,
    names: Names,
    deadline: Duration,
}

impl Guard {
    pub(super) fn new(config: &SenderAuthConfig, outside: &Outside) -> Result<Self, NamesError> {
        let deadline = Duration::from_millis(config.deadline_ms);
        // The limits of one message are elsewhere: this is for the breaker.
        let call = CallConfig {
            deadline_ms: config.deadline_ms.saturating_add(PATIENCE.as_millis() as u64),
            concurrent: 1_000_000,
            rate: RateConfig { per_second: 0, adaptive: false, ..RateConfig::default() },
            retry: RetryConfig { attempts: 1, ..RetryConfig::default() },
            breaker: config.breaker.clone(),
            ..CallConfig::default()
        };
        let names = Names::new(&NamesConfig {
            resolvers: config.resolvers.clone(),
            query: PATIENCE / 2,
            // What it said a while ago says nothing about now.
            cache_entries: 0,
            cache_max: Duration::ZERO,
        })?;
        Ok(Self { dependency: outside.dependencies.dependency(RESOLVER, &call), names, deadline })
    }

    /// What `ask` finds out; what there is of it when the resolver fails meanwhile.
    pub(super) async fn ask(&self, ask: impl Future<Output = Facts> + Send) -> Result<Facts, Why> {
        if let Some(failure) = self.dependency.refuses() {
            self.dependency.spared(&failure);
            return Err(why(&failure));
        }
        let found = Mutex::new(None);
        let keep = |facts| *found.lock().unwrap_or_else(PoisonError::into_inner) = Some(facts);
        let mut ask = Some(Box::pin(ask));
        let attempt = |_| {
            let ask = ask.take();
            let keep = &keep;
            async move {
                let Some(mut ask) = ask else { return Err(Failure::Disabled) };
                let begun = Instant::now();
                match timeout(self.deadline / 2, &mut ask).await {
                    Ok(facts) if !is_missing(&facts) => {
                        keep(facts);
                        Ok(())
                    }
                    Ok(facts) => {
                        keep(facts);
                        self.is_there(begun).await
                    }
                    Err(_) => {
                        let (facts, there) = tokio::join!(ask, self.is_there(begun));
                        let missing = is_missing(&facts);
                        keep(facts);
                        if missing { there } else { Ok(()) }
                    }
                }
            }
        };
        let result = self.dependency.call(Repeat::Never, None, attempt).await;
        let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
        match (found, result) {
            (Some(facts), _) => Ok(facts),
            (None, Err(failure)) => Err(why(&failure)),
            (None, Ok(())) => Err(Why::Timeout),
        }
    }

    /// Whether it answers, when a look is due.
    pub(super) async fn look(&self) {
        if self.dependency.wants_look() {
            let _ = self.dependency.call(Repeat::Look, None, |_| self.is_there(Instant::now())).await;
        }
    }

    async fn is_there(&self, begun: Instant) -> Result<(), Failure> {
        let mut chance = [0; 8];
        getrandom::fill(&mut chance).map_err(|_| Failure::Disabled)?;
        let name = format!("m{:016x}.test", u64::from_be_bytes(chance));
        match timeout(PATIENCE, self.names.ipv4(&name)).await {
            Ok(answer) => answer.map(drop),
            Err(_) => Err(Failure::Timeout { after_ms: begun.elapsed().as_millis() as u64 }),
        }
    }
}

fn is_missing(facts: &Facts) -> bool {
    facts.authentication_unknowns().any(|(_, why)| why.is_failure())
}
