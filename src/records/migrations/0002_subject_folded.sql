-- The subject in lower case, as the program folds it: SQLite's LOWER and LIKE know ASCII only.
ALTER TABLE messages ADD COLUMN subject_folded TEXT NOT NULL DEFAULT '';
UPDATE messages SET subject_folded = LOWER(subject);
