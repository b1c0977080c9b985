-- For what is asked of them: searches by tenant, retention, and how much is kept.
CREATE INDEX messages_tenant ON messages (tenant, id);
CREATE INDEX kept_kept ON kept (kept_ms);
CREATE INDEX kept_until ON kept (until_ms);
CREATE INDEX kept_size ON kept (size);
CREATE INDEX release_passes_expires ON release_passes (expires_ms);
