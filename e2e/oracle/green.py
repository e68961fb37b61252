"""Green-taxi trips across their schema drift, by DuckDB.

    python e2e/oracle/green.py write DIR            two synthetic months: VendorID 64 then 32 bits, ehail_fee without a
                                                    type and then a double
    python e2e/oracle/green.py compare DIR TABLE    the Parquet files of DIR against the curated Delta table

Exit code 0: written, or all agree; 1: something differs; 2: something could not be read.
"""

from __future__ import annotations

import sys
from datetime import datetime, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable

import rules

MONEY = ["fare_amount", "extra", "mta_tax", "tip_amount", "tolls_amount", "ehail_fee", "total_amount"]


def write(folder: Path) -> None:
    """Writes two small months whose schemas differ as the TLC's did from January to February 2023."""
    folder.mkdir(parents=True, exist_ok=True)
    for month, code, fee in [(1, pa.int64(), pa.null()), (2, pa.int32(), pa.float64())]:
        rows = 500
        at = [datetime(2023, month, 3) + timedelta(minutes=7 * i) for i in range(rows)]
        amounts = pa.array([i % 90 + 0.25 for i in range(rows)], pa.float64())
        columns = {
            "VendorID": pa.array([1 + i % 2 for i in range(rows)], code),
            "lpep_pickup_datetime": pa.array(at, pa.timestamp("us")),
            "lpep_dropoff_datetime": pa.array([t + timedelta(minutes=9) for t in at], pa.timestamp("us")),
            "store_and_fwd_flag": pa.array(["N"] * rows),
            "RatecodeID": pa.array([1.0 if i % 5 else None for i in range(rows)], pa.float64()),
            "PULocationID": pa.array([1 + i % 260 for i in range(rows)], code),
            "DOLocationID": pa.array([1 + i % 199 for i in range(rows)], code),
            "passenger_count": pa.array([float(i % 4) for i in range(rows)], pa.float64()),
            "trip_distance": pa.array([i / 100 for i in range(rows)], pa.float64()),
            "ehail_fee": pa.array([None] * rows, fee),
            "payment_type": pa.array([float(1 + i % 2) for i in range(rows)], pa.float64()),
            "trip_type": pa.array([1.0] * rows, pa.float64()),
            "congestion_surcharge": pa.array([2.75] * rows, pa.float64()),
        }
        for name in ["fare_amount", "extra", "mta_tax", "tip_amount", "tolls_amount", "improvement_surcharge"]:
            columns[name] = amounts
        columns["total_amount"] = amounts
        pq.write_table(pa.table(columns), folder / f"synthetic_green_2023-{month:02}.parquet")


def facts(connection: duckdb.DuckDBPyConnection, relation: str) -> tuple:
    sums = ", ".join(f"sum({m}), count({m})" for m in MONEY)
    total = connection.execute(
        f"SELECT count(*), sum(pickup_location_id), min(pickup_at), max(pickup_at), {sums} FROM {relation}"
    ).fetchone()
    paid = connection.execute(f"SELECT payment_type, count(*) FROM {relation} GROUP BY 1 ORDER BY 1").fetchall()
    return total, paid


def compare(folder: Path, table: str) -> int:
    connection = duckdb.connect()
    money = ", ".join(f"CAST(round(CAST({m} AS DOUBLE), 2) AS DECIMAL(10, 2)) AS {m}" for m in MONEY)
    payment = rules.by_code(
        "CAST(payment_type AS INTEGER)",
        {str(i): n for i, n in enumerate(["credit card", "cash", "no charge", "dispute", "unknown", "voided"], 1)},
    )
    wanted = (
        f"(SELECT lpep_pickup_datetime AS pickup_at, PULocationID AS pickup_location_id, {payment} AS payment_type, "
        f"{money} FROM read_parquet('{folder}/*.parquet', union_by_name = true) "
        f"WHERE NOT {rules.skipped_hour('lpep_pickup_datetime')})"
    )
    connection.register("curated", DeltaTable(table).to_pyarrow_dataset())
    ours, theirs = facts(connection, "curated"), facts(connection, wanted)
    if ours != theirs:
        print(f"differs\n  curated {ours}\n  duckdb  {theirs}")
        return 1
    print(f"all agree: {ours[0][0]} rows")
    return 0


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["write", folder]:
            write(Path(folder))
        case ["compare", folder, table]:
            rules.leave(compare(Path(folder), table))
        case _:
            print(__doc__, file=sys.stderr)
            sys.exit(2)
