-- Jobs that a worker has and others have lost before.
CREATE INDEX jobs_lost ON jobs (owner, ready_ms) WHERE delivery > 1;
