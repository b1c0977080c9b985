//! The connection to Redis: one server, the master that sentinels name, or a cluster.
//!
//! It is made when it is first needed and given up whenever it is in doubt: the next call makes a new one, which is also how a
//! new master is found after a failover. Every call has a deadline, connecting included. After a failure to connect others do
//! not try for a moment: they get the same error at once. Others than the queue may have one of their own for what gateways
//! share.

use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster_async::ClusterConnection;
use redis::{
    AsyncConnectionConfig, Cmd, ErrorKind, FromRedisValue, Pipeline, RedisError, RedisFuture, RedisResult,
    ScriptInvocation, ServerErrorKind, Value,
};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::target::{RedisAddress, Target, place};
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
    /// Reads the address and the certificates; nothing is connected yet. `deadline`: of each call, connecting included.
    ///
    /// # Errors
    /// When they are not understood.
    pub fn new(address: RedisAddress<'_>, deadline: Duration, its: LinkUse) -> Result<Self, QueueError> {
        let place = place(address.url);
        let target = Target::new(&address, deadline, its.setting)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    const USE: LinkUse = LinkUse { setting: "queue.url", without: "", keeps: true };

    fn plain(url: &str) -> RedisAddress<'_> {
        RedisAddress { url, ..RedisAddress::default() }
    }

    #[test]
    fn addresses() {
        let good = [
            ("redis://127.0.0.1:6379/3", "redis://127.0.0.1:6379/3"),
            ("redis://weir:s3c%40ret@redis.example", "redis://redis.example"),
            ("redis+unix:///run/redis.sock", "redis+unix:///run/redis.sock"),
            ("redis-sentinel://:s3cret@a.example:1,b.example/main/2", "redis-sentinel://a.example:1,b.example/main/2"),
            (
                "redis-sentinel://:s3cret@a.example:1/main/2?sentinel_user=u&sentinel_password=s3cret%40",
                "redis-sentinel://a.example:1/main/2",
            ),
            ("redis-cluster://weir:s3cret@a.example:1,b.example:2", "redis-cluster://a.example:1,b.example:2"),
        ];
        for (url, shown) in good {
            let link = RedisLink::new(plain(url), Duration::from_secs(1), USE)
                .unwrap_or_else(|error| panic!("{url}: {error}"));
            assert_eq!(link.place, shown);
        }
        for url in ["", "redis", "http://a", "redis-sentinel://a:1", "redis-sentinel://a:1/", "redis-x://a", "redis://"]
        {
            let error = RedisLink::new(plain(url), Duration::from_secs(1), USE).unwrap_err().to_string();
            assert!(error.contains("queue.url"), "{url}: {error}");
        }
        for url in [
            "redis-x://u:s3cret@a",
            "redis://:s3cret?more@a",
            "redis-sentinel://:s3cret?more@127.0.0.1:1/main",
            "redis://:s3cret/more@a",
            "redis-sentinel://a/main/0?sentinel_pass=s3cret",
        ] {
            let error = RedisLink::new(plain(url), Duration::from_secs(1), USE).unwrap_err().to_string();
            assert!(!error.contains("s3cret"), "{error}");
        }
    }
}
