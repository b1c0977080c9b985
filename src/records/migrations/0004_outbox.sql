-- Jobs that wait until they are done; a row commits with the record that caused it, and goes when the job has its result.
-- due_ms: when the job is to be put into the queue (again). payload in base 64; priority 0 high, 1 medium, 2 low.
CREATE TABLE outbox (
    job_key TEXT PRIMARY KEY NOT NULL,
    kind TEXT NOT NULL,
    priority BIGINT NOT NULL,
    payload TEXT NOT NULL,
    correlation TEXT NOT NULL,
    enqueued_ms BIGINT NOT NULL,
    not_before_ms BIGINT NOT NULL,
    due_ms BIGINT NOT NULL
);
CREATE INDEX outbox_due ON outbox (due_ms);
