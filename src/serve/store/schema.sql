-- The index of the embedded server: what exists, in the order it is listed. Keys are blobs, so that their order is
-- that of their bytes. Times are Unix seconds; `record` and `attributes` are JSON that only reading one object needs.

CREATE TABLE bucket (
    id      INTEGER PRIMARY KEY,
    name    TEXT NOT NULL UNIQUE,
    created INTEGER NOT NULL
) STRICT;

CREATE TABLE object (
    bucket        INTEGER NOT NULL,
    key           BLOB NOT NULL,
    etag          TEXT NOT NULL,
    size          INTEGER NOT NULL,
    modified      INTEGER NOT NULL,
    checksum      TEXT,
    storage_class TEXT,
    record        TEXT NOT NULL,
    body          INTEGER NOT NULL,
    PRIMARY KEY (bucket, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE upload (
    bucket INTEGER NOT NULL,
    key    BLOB NOT NULL,
    id     TEXT NOT NULL,
    record TEXT NOT NULL,
    PRIMARY KEY (bucket, key, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE part (
    upload   TEXT NOT NULL,
    number   INTEGER NOT NULL,
    etag     TEXT NOT NULL,
    modified INTEGER NOT NULL,
    checksum TEXT NOT NULL,
    body     INTEGER NOT NULL,
    PRIMARY KEY (upload, number)
) STRICT, WITHOUT ROWID;

-- A body is its pieces in order: `bytes` kept right here, or `size` bytes from `start` on of a file that several
-- bodies may share. A file is named by the hexadecimal digits of its number.
CREATE TABLE piece (
    body    INTEGER NOT NULL,
    ordinal INTEGER NOT NULL,
    bytes   BLOB,
    file    INTEGER,
    start   INTEGER,
    size    INTEGER,
    PRIMARY KEY (body, ordinal)
) STRICT;

CREATE INDEX piece_by_file ON piece (file) WHERE file IS NOT NULL;
