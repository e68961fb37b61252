"""Lets requests come past the first check more often: in about half of them, datasets that are there, SQL that is some,
records that the datasets know. The other half is as schemathesis makes it. For requests that keep to the document only: what
is put in does."""

from __future__ import annotations

import random

import schemathesis

#: One of its own: Hypothesis sets the module's to the same seed before every request.
RANDOM = random.Random(0)
DATASETS = ["orders", "trips"]
STATEMENTS = [
    "SELECT count(*) AS n FROM orders",
    "SELECT * FROM merged.orders ORDER BY id LIMIT 5",
    "SELECT country, sum(cents) AS cents FROM batch.orders GROUP BY country",
    "SELECT * FROM live.orders",
    "SELECT o.id, t.pickup_at FROM orders o JOIN trips t ON o.cents = t._offset",
    "SELECT id FROM orders WHERE cents > $1",
    "SELECT id, id FROM orders",
    "SELECT cents / (cents - cents) FROM orders",
    "SELECT CAST(id AS BIGINT) FROM orders",
    "SELECT sum(cents) OVER (ORDER BY id) AS s FROM orders",
    "WITH a AS (SELECT * FROM orders) SELECT count(*) FROM a WHERE cents IN (SELECT cents FROM trips)",
    "SELECT nothing FROM orders",
    "SELECT 1; SELECT 2",
    "DROP TABLE orders",
    "COPY orders TO '/tmp/x.csv'",
    "SELECT * FROM '/etc/passwd'",
    # before its first row: a limit that is met behind it can only break the connection, which is a failure to schemathesis
    "SELECT count(DISTINCT repeat(id, 1000000)) AS n FROM orders",
    "SELECT * FROM information_schema.tables",
    "EXPLAIN SELECT * FROM orders",
    "VALUES (1), (2)",
]


def half(context) -> bool:
    return RANDOM.random() < 0.5


@schemathesis.hook
def map_path_parameters(context, path_parameters):
    if path_parameters and "dataset" in path_parameters and half(context):
        path_parameters = {**path_parameters, "dataset": RANDOM.choice(DATASETS)}
    return path_parameters


@schemathesis.hook
def map_body(context, body):
    if isinstance(body, dict) and isinstance(body.get("sql"), str) and half(context):
        sql = RANDOM.choice(STATEMENTS)
        body = {**body, "sql": sql, "params": [7] if "$1" in sql else []}
        if RANDOM.random() < 0.7:
            # limits and wishes of random size are refused before much happens
            for name in ("at_least", "positions", "bytes_read_max", "timeout_ms"):
                body.pop(name, None)
    if isinstance(body, list) and half(context):
        body = [{"id": f"f-{RANDOM.randint(0, 9)}", "cents": 1_000, "at": "2026-11-24T10:00:00Z"}, {"id": None}]
    return body
