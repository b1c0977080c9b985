-- Why each recipient does not get a held message; empty: held by an earlier version, the message's own reason stands for all.
ALTER TABLE quarantine_recipients ADD COLUMN reason TEXT NOT NULL DEFAULT '';

-- One row for each order of an action: what a second verdict wanted, what a later one adds, what the end of a wait wants.
-- cause: who ordered it; empty: an earlier version.
CREATE TABLE actions_by_cause (
    message_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    cause TEXT NOT NULL,
    recipients TEXT NOT NULL,
    wanted_ms BIGINT NOT NULL,
    result TEXT,
    result_ms BIGINT,
    PRIMARY KEY (message_id, kind, cause)
);
INSERT INTO actions_by_cause (message_id, kind, cause, recipients, wanted_ms, result, result_ms)
    SELECT message_id, kind, '', recipients, wanted_ms, result, result_ms FROM actions;
DROP TABLE actions;
ALTER TABLE actions_by_cause RENAME TO actions;
