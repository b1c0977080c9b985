-- Where a small commit tells whether others can be made (`/health`).
CREATE TABLE pulse (
    id BIGINT PRIMARY KEY,
    beats BIGINT NOT NULL
);
