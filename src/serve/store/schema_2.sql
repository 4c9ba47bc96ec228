-- What the index of the embedded server has since it keeps versions. `object` holds what each key means now; `version`
-- what it has meant before, a delete marker without record and body. Numbers rise; of a key that is in `version` alone, the
-- highest is a delete marker's. Ids are those of S3, `null` where a bucket kept none.

-- 0: no versions; 1: versions; 2: versions were kept, and only `null` is replaced now.
ALTER TABLE bucket ADD COLUMN versioning INTEGER NOT NULL DEFAULT 0;

CREATE TABLE version (
    bucket   INTEGER NOT NULL,
    key      BLOB NOT NULL,
    number   INTEGER NOT NULL,
    id       TEXT NOT NULL,
    modified INTEGER NOT NULL,
    record   TEXT,
    body     INTEGER,
    PRIMARY KEY (bucket, key, number)
) STRICT, WITHOUT ROWID;
