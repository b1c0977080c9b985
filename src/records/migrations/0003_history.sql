-- What is remembered of senders and of those we wrote to: one row a name and day (days since 1970, UTC).
-- who: 'a:' address, 'd:' domain, 'r:' address in Reply-To; '*' on day 0 holds the time of the very first message.
-- A time that never was: 9223372036854775807 for a first, 0 for a last one.
CREATE TABLE history (
    who TEXT NOT NULL,
    day BIGINT NOT NULL,
    inbound BIGINT NOT NULL,
    outbound BIGINT NOT NULL,
    benign BIGINT NOT NULL,
    malicious BIGINT NOT NULL,
    false_positive BIGINT NOT NULL,
    auth_failed BIGINT NOT NULL,
    first_in_ms BIGINT NOT NULL,
    last_in_ms BIGINT NOT NULL,
    first_out_ms BIGINT NOT NULL,
    last_out_ms BIGINT NOT NULL,
    last_ms BIGINT NOT NULL,
    PRIMARY KEY (who, day)
);
CREATE INDEX history_day ON history (day);
