-- One text for SQLite and PostgreSQL: only BIGINT, DOUBLE PRECISION and TEXT, times in milliseconds since 1970.

-- The ledger: one row a judged message. `id` sorts by time.
CREATE TABLE messages (
    id TEXT PRIMARY KEY NOT NULL,
    received_ms BIGINT NOT NULL,
    door TEXT NOT NULL,
    tenant TEXT NOT NULL,
    action TEXT NOT NULL,
    risk DOUBLE PRECISION NOT NULL,
    degraded BIGINT NOT NULL,
    client_ip TEXT,
    sender TEXT NOT NULL,
    sender_domain TEXT NOT NULL,
    from_address TEXT NOT NULL,
    from_domain TEXT NOT NULL,
    subject TEXT NOT NULL,
    header_id TEXT NOT NULL,
    size BIGINT NOT NULL,
    signals TEXT NOT NULL,
    record TEXT NOT NULL
);
CREATE INDEX messages_action ON messages (action, id);
CREATE INDEX messages_client_ip ON messages (client_ip, id);
CREATE INDEX messages_sender ON messages (sender, id);
CREATE INDEX messages_sender_domain ON messages (sender_domain, id);
CREATE INDEX messages_from_address ON messages (from_address, id);
CREATE INDEX messages_from_domain ON messages (from_domain, id);
CREATE INDEX messages_header_id ON messages (header_id, id);

-- Who a message was for, to search by.
CREATE TABLE message_recipients (
    recipient TEXT NOT NULL,
    message_id TEXT NOT NULL,
    PRIMARY KEY (recipient, message_id)
);
CREATE INDEX message_recipients_message ON message_recipients (message_id);

-- What is held. A row is there, synced, before the sender is told 250.
CREATE TABLE quarantine (
    id TEXT PRIMARY KEY NOT NULL,
    held_ms BIGINT NOT NULL,
    reason TEXT NOT NULL,
    risk DOUBLE PRECISION NOT NULL,
    sender TEXT NOT NULL,
    sender_params TEXT NOT NULL,
    from_address TEXT NOT NULL,
    subject TEXT NOT NULL,
    client_ip TEXT,
    size BIGINT NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX quarantine_body ON quarantine (body);

-- One row a held recipient. state: held, releasing, released, deleted.
CREATE TABLE quarantine_recipients (
    message_id TEXT NOT NULL,
    recipient TEXT NOT NULL,
    params TEXT NOT NULL,
    tenant TEXT NOT NULL,
    state TEXT NOT NULL,
    lease_ms BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    last_error TEXT,
    settled_ms BIGINT,
    PRIMARY KEY (message_id, recipient)
);
CREATE INDEX quarantine_recipients_state ON quarantine_recipients (state, message_id);

-- Single-use passes of released messages through our own doors.
CREATE TABLE release_passes (
    nonce TEXT PRIMARY KEY NOT NULL,
    message_id TEXT NOT NULL,
    expires_ms BIGINT NOT NULL,
    used_ms BIGINT
);
