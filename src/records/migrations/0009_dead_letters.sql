-- Dead letters stay with their payload until somebody says what becomes of them, whatever the queue loses.
-- dead_ms: since when; 0: not dead. due_ms: when the queue is given it (again), as a job or as a dead letter.
ALTER TABLE outbox ADD COLUMN dead_ms BIGINT NOT NULL DEFAULT 0;
ALTER TABLE outbox ADD COLUMN reason TEXT NOT NULL DEFAULT '';
ALTER TABLE outbox ADD COLUMN last_error TEXT NOT NULL DEFAULT '';
ALTER TABLE outbox ADD COLUMN attempts BIGINT NOT NULL DEFAULT 0;
DROP INDEX outbox_due;
CREATE INDEX outbox_next ON outbox (priority, due_ms) WHERE dead_ms = 0;
CREATE INDEX outbox_dead ON outbox (due_ms) WHERE dead_ms > 0;
