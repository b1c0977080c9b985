//! Who tells of alerts and of second verdicts, as the settings stand: a reload puts others in their place, all or none.

use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use anyhow::Context;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use prometheus::Registry;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::ways;
use crate::app::config::Config;
use crate::app::{data, standing};
use crate::deferred::{self, Handler, Job, Queue};
use crate::egress;
use crate::enforcement::alert::{AlertJobs, AlertMetrics, AlertsConfig, Board, Channel, DELIVER_ALERT, Later, Node};
use crate::enforcement::{ALERT, NOTIFY, Tell, WEBHOOK};
use crate::enrichment::Outside;
use crate::gateway::next_hop::NextHops;
use crate::records::Records;

/// What is watched and who is told, for as long as no reload says otherwise.
#[derive(Clone)]
pub(super) struct Told {
    pub(super) config: Arc<AlertsConfig>,
    pub(super) channels: Vec<Arc<Channel>>,
}

/// Who watches, where anybody does.
#[derive(Clone)]
pub(super) struct Watcher {
    pub(super) node: Node,
    pub(super) metrics: AlertMetrics,
}

/// The channels, for whoever watches and for whoever works on what waits.
pub(in crate::app) struct Tellers {
    /// As the process began: what a reload does not change is taken from here.
    config: Arc<Config>,
    next_hops: Arc<NextHops>,
    /// Channels of alerts; of their own: a reload of services forgets those that are gone, not channels.
    pub(super) dependencies: egress::Registry,
    /// Of those that `[actions]` names: what is dead there keeps no operator from being told.
    actions: egress::Registry,
    pub(super) watcher: Option<Watcher>,
    told: watch::Sender<Told>,
    work: OnceLock<Work>,
}

/// What the handlers of jobs are made of, where this process works, and the handlers.
struct Work {
    records: Arc<Records>,
    queue: Arc<dyn Queue>,
    tell: Arc<Replaced>,
    deliver: Option<Arc<Replaced>>,
}

/// New settings that can be used, before they are.
pub(in crate::app) struct Draft<'t> {
    tellers: &'t Tellers,
    told: Told,
    dependencies: egress::Registry,
    actions: egress::Registry,
    tell: Option<Tell>,
}

impl Tellers {
    /// Sets the channels up.
    ///
    /// # Errors
    /// Names the setting that cannot be used.
    pub(in crate::app) fn new(
        config: &Arc<Config>,
        outside: &Outside,
        next_hops: &Arc<NextHops>,
        registry: &Registry,
    ) -> anyhow::Result<Self> {
        let (dependencies, actions) = (outside.dependencies.beside(), outside.dependencies.beside());
        data::prepare(config)?;
        let watcher = if config.alerts.enabled {
            let node = Node { name: standing::host_name(config), id: Board::new(&config.data).node_id()? };
            Some(Watcher { node, metrics: AlertMetrics::new(registry)? })
        } else {
            None
        };
        let channels = match &watcher {
            Some(_) => channels(config, dependencies.clone(), next_hops)?,
            None => Vec::new(),
        };
        let told = watch::Sender::new(Told { config: Arc::new(config.alerts.clone()), channels });
        let (config, next_hops) = (Arc::clone(config), Arc::clone(next_hops));
        Ok(Self { config, next_hops, dependencies, actions, watcher, told, work: OnceLock::new() })
    }

    /// Who is called: channels of alerts, and those of `[actions]`.
    pub(in crate::app) fn called(&self) -> (egress::Registry, egress::Registry) {
        (self.dependencies.clone(), self.actions.clone())
    }

    /// What is watched and who is told, and whoever comes after.
    pub(super) fn told(&self) -> watch::Receiver<Told> {
        self.told.subscribe()
    }

    /// What works on jobs that tell somebody; to be called once.
    ///
    /// # Errors
    /// Names the setting that cannot be used.
    pub(in crate::app) fn handlers(
        &self,
        records: &Arc<Records>,
        queue: &Arc<dyn Queue>,
    ) -> anyhow::Result<Vec<(&'static str, Arc<dyn Handler>)>> {
        let told = self.told.borrow().clone();
        let tell = self.tell(&self.config, (records, queue), &told, self.actions.clone())?;
        let (records, queue) = (Arc::clone(records), Arc::clone(queue));
        let deliver = self.watcher.as_ref().map(|watcher| Replaced::new(self.deliver(watcher, &queue, &told)));
        let work = self.work.get_or_init(|| Work { records, queue, tell: Replaced::new(tell), deliver });
        let mut handlers: Vec<(_, Arc<dyn Handler>)> =
            [ALERT, NOTIFY, WEBHOOK].map(|kind| (kind, Arc::clone(&work.tell) as _)).into();
        handlers.extend(work.deliver.as_ref().map(|deliver| (DELIVER_ALERT, Arc::clone(deliver) as _)));
        Ok(handlers)
    }

    /// Makes of new settings what is needed; asks nobody, and nothing changes before [`Draft::take_effect`].
    ///
    /// # Errors
    /// Names the setting that cannot be used.
    pub(in crate::app) fn draft(&self, new: &Config) -> anyhow::Result<Draft<'_>> {
        // The resolvers are those of services: they have changed with them.
        let (alerts, actions, enrichment) = (new.alerts.clone(), new.actions.clone(), new.enrichment.clone());
        let config = Config { alerts, actions, enrichment, ..Config::clone(&self.config) };
        let dependencies = self.dependencies.draft();
        let channels = match &self.watcher {
            Some(_) => channels(&config, dependencies.clone(), &self.next_hops)?,
            None => Vec::new(),
        };
        let told = Told { config: Arc::new(config.alerts.clone()), channels };
        let actions = self.actions.draft();
        let tell = match self.work.get() {
            Some(work) => Some(self.tell(&config, (&work.records, &work.queue), &told, actions.clone())?),
            None => None,
        };
        Ok(Draft { tellers: self, told, dependencies, actions, tell })
    }

    fn tell(
        &self,
        config: &Config,
        (records, queue): (&Arc<Records>, &Arc<dyn Queue>),
        told: &Told,
        dependencies: egress::Registry,
    ) -> anyhow::Result<Tell> {
        let ways = ways(config, dependencies, Some(&self.next_hops)).context("[actions]")?;
        let sections = (&config.alerts, &config.actions);
        let tell = Tell::new(Arc::clone(records), told.channels.clone(), sections, ways).context("[actions]")?;
        let later = Later::new(Arc::clone(queue), &told.config.delivery);
        Ok(match &self.watcher {
            Some(watcher) => tell.waiting_in(later, watcher.metrics.clone()),
            None => tell,
        })
    }

    fn deliver(&self, watcher: &Watcher, queue: &Arc<dyn Queue>, told: &Told) -> AlertJobs {
        let later = Later::new(Arc::clone(queue), &told.config.delivery);
        let ours = (watcher.node.id.clone(), Board::new(&self.config.data));
        AlertJobs::new(told.channels.clone(), later, ours, watcher.metrics.clone())
    }
}

fn channels(
    config: &Config,
    dependencies: egress::Registry,
    next_hops: &Arc<NextHops>,
) -> anyhow::Result<Vec<Arc<Channel>>> {
    let ways = ways(config, dependencies, Some(next_hops)).context("[alerts]")?;
    let channels = Channel::configured(&config.alerts, &ways).context("[alerts]")?;
    Ok(channels.into_iter().map(Arc::new).collect())
}

impl Draft<'_> {
    /// From now on by these settings. What is under way ends as it began.
    pub(in crate::app) fn take_effect(self) {
        let Self { tellers, told, dependencies, actions, tell } = self;
        dependencies.commit(|_| false);
        // People are mailed by one that is made when the first of them is.
        actions.commit(|_| true);
        if let Some(work) = tellers.work.get() {
            tell.into_iter().for_each(|tell| work.tell.replace(tell));
            if let (Some(deliver), Some(watcher)) = (&work.deliver, &tellers.watcher) {
                deliver.replace(tellers.deliver(watcher, &work.queue, &told));
            }
        }
        tellers.told.send_replace(told);
    }
}

/// A handler that another takes the place of.
struct Replaced(RwLock<Arc<dyn Handler>>);

impl Replaced {
    fn new(handler: impl Handler + 'static) -> Arc<Self> {
        Arc::new(Self(RwLock::new(Arc::new(handler))))
    }

    fn replace(&self, handler: impl Handler + 'static) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(handler);
    }

    fn standing(&self) -> Arc<dyn Handler> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Handler for Replaced {
    fn run<'a>(&'a self, job: &'a Job, soon: CancellationToken) -> BoxFuture<'a, Result<(), deferred::Failure>> {
        let standing = self.standing();
        async move { standing.run(job, soon).await }.boxed()
    }

    fn delivers(&self) -> bool {
        self.standing().delivers()
    }

    fn grace(&self) -> std::time::Duration {
        self.standing().grace()
    }
}
