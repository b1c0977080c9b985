-- Bytes of delivered messages that wait for their second look; the body itself is in the store of bodies.
CREATE TABLE kept (
    message_id TEXT PRIMARY KEY NOT NULL,
    body TEXT NOT NULL,
    size BIGINT NOT NULL,
    kept_ms BIGINT NOT NULL
);
CREATE INDEX kept_body ON kept (body);

-- The second verdict of a message, beside the record of the first. change: same, worse, better. record: as in messages.
CREATE TABLE reassessments (
    message_id TEXT PRIMARY KEY NOT NULL,
    at_ms BIGINT NOT NULL,
    change TEXT NOT NULL,
    record TEXT NOT NULL
);

-- What was to be done about a message, and what came of it. recipients: JSON. result: none while it is not done.
CREATE TABLE actions (
    message_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    recipients TEXT NOT NULL,
    wanted_ms BIGINT NOT NULL,
    result TEXT,
    result_ms BIGINT,
    PRIMARY KEY (message_id, kind)
);
