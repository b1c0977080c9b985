-- The embedded queue. Times in milliseconds since 1970, priority 0 high, 1 medium, 2 low.
-- ready_ms: when it may be claimed (again): its own time while it waits, the end of the lease while it is worked on.
CREATE TABLE jobs (
    key TEXT PRIMARY KEY NOT NULL,
    kind TEXT NOT NULL,
    priority INTEGER NOT NULL,
    payload BLOB NOT NULL,
    correlation TEXT NOT NULL,
    enqueued_ms INTEGER NOT NULL,
    ready_ms INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    delivery INTEGER NOT NULL DEFAULT 0,
    owner TEXT NOT NULL DEFAULT '',
    last_error TEXT
);
CREATE INDEX jobs_ready ON jobs (priority, ready_ms, owner);

CREATE TABLE dead (
    key TEXT PRIMARY KEY NOT NULL,
    kind TEXT NOT NULL,
    priority INTEGER NOT NULL,
    payload BLOB NOT NULL,
    correlation TEXT NOT NULL,
    enqueued_ms INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    last_error TEXT,
    reason TEXT NOT NULL,
    dead_ms INTEGER NOT NULL
);
CREATE INDEX dead_ms ON dead (dead_ms);
