CREATE TABLE databases (
    name    TEXT   NOT NULL PRIMARY KEY,
    body    TEXT   NOT NULL,
    created BIGINT NOT NULL
);

CREATE TABLE tables (
    database TEXT   NOT NULL REFERENCES databases (name) ON DELETE CASCADE,
    name     TEXT   NOT NULL,
    version  BIGINT NOT NULL,
    body     TEXT   NOT NULL,
    created  BIGINT NOT NULL,
    updated  BIGINT NOT NULL,
    PRIMARY KEY (database, name)
);

CREATE TABLE table_versions (
    database TEXT   NOT NULL,
    name     TEXT   NOT NULL,
    version  BIGINT NOT NULL,
    body     TEXT   NOT NULL,
    created  BIGINT NOT NULL,
    updated  BIGINT NOT NULL,
    PRIMARY KEY (database, name, version),
    FOREIGN KEY (database, name) REFERENCES tables (database, name) ON DELETE CASCADE
);

-- `key` is the values as a JSON array: one text that is unique and gives a stable order.
CREATE TABLE partitions (
    database   TEXT   NOT NULL,
    table_name TEXT   NOT NULL,
    key        TEXT   NOT NULL,
    body       TEXT   NOT NULL,
    created    BIGINT NOT NULL,
    PRIMARY KEY (database, table_name, key),
    FOREIGN KEY (database, table_name) REFERENCES tables (database, name) ON DELETE CASCADE
);
