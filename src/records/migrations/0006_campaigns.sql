-- Digests of messages, to find those that say the same. simhash, words, links: as in the record; band_0 to band_3: sixteen bits
-- each of simhash. recipients: JSON. told: 1 when it was judged, or is to be judged again, knowing of its campaign.
CREATE TABLE likenesses (
    message_id TEXT PRIMARY KEY NOT NULL,
    received_ms BIGINT NOT NULL,
    simhash BIGINT NOT NULL,
    words BIGINT NOT NULL,
    links BIGINT NOT NULL,
    band_0 BIGINT NOT NULL,
    band_1 BIGINT NOT NULL,
    band_2 BIGINT NOT NULL,
    band_3 BIGINT NOT NULL,
    sender TEXT NOT NULL,
    recipients TEXT NOT NULL,
    told BIGINT NOT NULL
);
CREATE INDEX likenesses_band_0 ON likenesses (band_0, received_ms);
CREATE INDEX likenesses_band_1 ON likenesses (band_1, received_ms);
CREATE INDEX likenesses_band_2 ON likenesses (band_2, received_ms);
CREATE INDEX likenesses_band_3 ON likenesses (band_3, received_ms);
CREATE INDEX likenesses_received ON likenesses (received_ms);

-- Bytes may be kept longer than to the second look: until then they stay for another.
ALTER TABLE kept ADD COLUMN until_ms BIGINT NOT NULL DEFAULT 0;

-- Whether the second verdict knew of a campaign: then it stands.
ALTER TABLE reassessments ADD COLUMN in_campaign BIGINT NOT NULL DEFAULT 0;
