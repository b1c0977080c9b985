//! The connection to Redis: one server, the master that sentinels name, or a cluster.
//!
//! It is made when it is first needed and given up whenever it is in doubt: the next call makes a new one, which is also how a
//! new master is found after a failover. Every call has a deadline, connecting included. After a failure to connect others do
//! not try for a moment: they get the same error at once. Others than the queue may have one of their own for what gateways
//! share.

use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::{ClusterClient, ClusterClientBuilder};
use redis::cluster_async::ClusterConnection;
use redis::sentinel::{SentinelClient, SentinelNodeConnectionInfo, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, FromRedisValue, IntoConnectionInfo, Pipeline, RedisError,
    RedisFuture, RedisResult, ScriptInvocation, ServerErrorKind, TlsMode, Value,
};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::deferred::QueueError;
use crate::observe::event;

/// How long a failure to connect answers for others.
const SHUN: Duration = Duration::from_millis(250);

/// What a connection is for: for errors and the log.
#[derive(Debug, Clone, Copy)]
pub struct LinkUse {
    /// The setting that holds the address.
    pub setting: &'static str,
    /// What becomes of things while there is no connection.
    pub without: &'static str,
    /// Whether what is kept there must never be thrown away.
    pub keeps: bool,
}

/// Where Redis is, and the connection while there is one.
pub struct RedisLink {
    /// Address without password.
    place: String,
    its: LinkUse,
    deadline: Duration,
    state: Mutex<State>,
}

struct State {
    target: Target,
    wire: Option<Wire>,
    /// Tells connections apart, so that a failed call gives up the one that it used and no other.
    made: u64,
    failed: Option<(Instant, RedisError)>,
}

enum Target {
    One(Box<Client>),
    Sentinel(Box<SentinelClient>),
    Cluster(Box<ClusterClient>),
}

#[derive(Clone)]
enum Wire {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl ConnectionLike for Wire {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::One(wire) => wire.req_packed_command(command),
            Self::Cluster(wire) => wire.req_packed_command(command),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        commands: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::One(wire) => wire.req_packed_commands(commands, offset, count),
            Self::Cluster(wire) => wire.req_packed_commands(commands, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::One(wire) => wire.get_db(),
            Self::Cluster(wire) => wire.get_db(),
        }
    }
}

impl std::fmt::Debug for RedisLink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisLink").field("place", &self.place).finish_non_exhaustive()
    }
}

impl RedisLink {
    /// Reads the address; nothing is connected yet. `deadline`: of each call, connecting included.
    ///
    /// # Errors
    /// When the address is not understood.
    pub fn new(url: &str, deadline: Duration, its: LinkUse) -> Result<Self, QueueError> {
        let place = place(url);
        let target = target(url, deadline).map_err(|error| QueueError::Address {
            setting: its.setting,
            place: place.clone(),
            why: error.to_string(),
        })?;
        let state = Mutex::new(State { target, wire: None, made: 0, failed: None });
        Ok(Self { place, its, deadline, state })
    }

    /// Its address without password.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Runs a script under the deadline.
    ///
    /// # Errors
    /// When there is no connection, no answer in time, or the answer is an error.
    pub async fn run<T: FromRedisValue>(
        &self,
        attempt: &'static str,
        script: &ScriptInvocation<'_>,
    ) -> Result<T, QueueError> {
        let call = async {
            let (mut wire, made) = self.wire().await?;
            let answer = script.invoke_async::<T>(&mut wire).await;
            if let Err(error) = &answer
                && !is_answer(error)
            {
                self.give_up(made).await;
            }
            answer
        };
        match tokio::time::timeout(self.deadline, call).await {
            Ok(answer) => answer.map_err(|source| QueueError::Redis { attempt, source }),
            Err(_elapsed) => {
                // Nobody knows what is on that wire any more. Locked: somebody makes a new one already.
                if let Ok(mut state) = self.state.try_lock() {
                    state.wire = None;
                }
                Err(QueueError::Slow { attempt, ms: self.deadline.as_millis() as u64 })
            }
        }
    }

    async fn wire(&self) -> RedisResult<(Wire, u64)> {
        let mut state = self.state.lock().await;
        if let Some(wire) = &state.wire {
            return Ok((wire.clone(), state.made));
        }
        if let Some((at, error)) = &state.failed
            && at.elapsed() < SHUN
        {
            return Err(error.clone());
        }
        match connect(&mut state.target, self.deadline, self.its.keeps).await {
            Ok(wire) => {
                if state.failed.take().is_some() {
                    tracing::info!(
                        event = event::SYSTEM,
                        place = self.place,
                        setting = self.its.setting,
                        "connected to Redis again"
                    );
                }
                state.made += 1;
                state.wire = Some(wire.clone());
                let made = state.made;
                Ok((wire, made))
            }
            Err(error) => {
                if state.failed.is_none() {
                    let (setting, without) = (self.its.setting, self.its.without);
                    tracing::warn!(
                        event = event::SYSTEM,
                        place = self.place, setting, %error, "no connection to Redis: {without}"
                    );
                }
                state.failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    async fn give_up(&self, made: u64) {
        let mut state = self.state.lock().await;
        if state.made == made {
            state.wire = None;
        }
    }

    /// Lets go of the connection.
    pub(super) async fn close(&self) {
        self.state.lock().await.wire = None;
    }
}

async fn connect(target: &mut Target, deadline: Duration, keeps: bool) -> RedisResult<Wire> {
    let config =
        AsyncConnectionConfig::new().set_connection_timeout(Some(deadline)).set_response_timeout(Some(deadline));
    let mut wire = match target {
        Target::One(client) => client.get_multiplexed_async_connection_with_config(&config).await?,
        Target::Sentinel(client) => client.get_async_connection_with_config(&config).await?,
        Target::Cluster(client) => return client.get_async_connection().await.map(Wire::Cluster),
    };
    if !keeps {
        return Ok(Wire::One(wire));
    }
    let memory: RedisResult<redis::InfoDict> = redis::cmd("INFO").arg("memory").query_async(&mut wire).await;
    let policy = memory.ok().and_then(|memory| memory.get::<String>("maxmemory_policy"));
    if let Some(policy) = policy.filter(|policy| policy != "noeviction") {
        tracing::warn!(
            event = event::SYSTEM,
            policy,
            "Redis may throw jobs away when its memory is full: set maxmemory-policy noeviction"
        );
    }
    Ok(Wire::One(wire))
}

/// Whether the server has answered, so that the connection is good. A server that may not write (any more) is the wrong one.
fn is_answer(error: &RedisError) -> bool {
    match error.kind() {
        ErrorKind::Server(kind) => !matches!(kind, ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown),
        ErrorKind::Extension => true,
        _ => false,
    }
}

fn target(url: &str, deadline: Duration) -> RedisResult<Target> {
    let (scheme, rest) = url.split_once("://").unwrap_or((url, ""));
    let tls = scheme.starts_with("rediss");
    let each = |hosts: &str, login: &str, path: &str| {
        let scheme = if tls { "rediss" } else { "redis" };
        hosts.split(',').map(|host| format!("{scheme}://{login}{host}{path}")).collect::<Vec<String>>()
    };
    let (login, hosts) = match rest.rsplit_once('@') {
        Some((login, hosts)) => (format!("{login}@"), hosts),
        None => (String::new(), rest),
    };
    let wrong = |what| RedisError::from((ErrorKind::InvalidClientConfig, what));
    match scheme.trim_start_matches("rediss").trim_start_matches("redis") {
        "" | "+unix" => Ok(Target::One(Box::new(Client::open(url)?))),
        "-cluster" => {
            let nodes = each(hosts.trim_end_matches('/'), &login, "");
            let cluster = ClusterClientBuilder::new(nodes).connection_timeout(deadline).response_timeout(deadline);
            Ok(Target::Cluster(Box::new(cluster.build()?)))
        }
        "-sentinel" => {
            let (hosts, path) = hosts.split_once('/').ok_or(wrong("the master's name is missing: …/MASTER"))?;
            let (master, database) = path.split_once('/').unwrap_or((path, "0"));
            if master.is_empty() {
                return Err(wrong("the master's name is missing: …/MASTER"));
            }
            // The login is the master's. Read in the form of an address, as everywhere.
            let node = format!("redis://{login}localhost/{database}").into_connection_info()?;
            let mut node_info =
                SentinelNodeConnectionInfo::default().set_redis_connection_info(node.redis_settings().clone());
            if tls {
                node_info = node_info.set_tls_mode(TlsMode::Secure);
            }
            let kind = SentinelServerType::Master;
            let client = SentinelClient::build(each(hosts, "", ""), master, Some(node_info), kind)?;
            Ok(Target::Sentinel(Box::new(client)))
        }
        _ => Err(wrong("use redis://, rediss://, redis+unix://, redis-sentinel:// or redis-cluster://")),
    }
}

/// The address without login and parameters.
fn place(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", ""));
    let rest = rest.split('?').next().unwrap_or_default();
    let rest = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    format!("{scheme}://{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const USE: LinkUse = LinkUse { setting: "queue.url", without: "", keeps: true };

    #[test]
    fn addresses() {
        let good = [
            ("redis://127.0.0.1:6379/3", "redis://127.0.0.1:6379/3"),
            ("redis://weir:s3c%40ret@redis.example", "redis://redis.example"),
            ("redis+unix:///run/redis.sock", "redis+unix:///run/redis.sock"),
            ("redis-sentinel://:s3cret@a.example:1,b.example/main/2", "redis-sentinel://a.example:1,b.example/main/2"),
            ("redis-cluster://weir:s3cret@a.example:1,b.example:2", "redis-cluster://a.example:1,b.example:2"),
        ];
        for (url, shown) in good {
            let link =
                RedisLink::new(url, Duration::from_secs(1), USE).unwrap_or_else(|error| panic!("{url}: {error}"));
            assert_eq!(link.place, shown);
        }
        for url in ["", "redis", "http://a", "redis-sentinel://a:1", "redis-sentinel://a:1/", "redis-x://a", "redis://"]
        {
            let error = RedisLink::new(url, Duration::from_secs(1), USE).unwrap_err().to_string();
            assert!(error.contains("queue.url"), "{url}: {error}");
        }
        let error = RedisLink::new("redis-x://u:s3cret@a", Duration::from_secs(1), USE).unwrap_err().to_string();
        assert!(!error.contains("s3cret"), "{error}");
    }
}
