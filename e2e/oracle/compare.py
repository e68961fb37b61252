"""Compares a curated trips table with what DuckDB computes from the same CSV files by rules of its own.

    python e2e/oracle/compare.py --csv DIR --table DIR [--manifest FILE]

The table is read three times: by DuckDB and by PyArrow through `DeltaTable(…).to_pyarrow_dataset()`, and by Polars.
Compared are the number of rows, rows a pickup month, count and sum of every numeric column (decimals exactly), first
and last times, and rows a vendor, tariff, kind of payment and flag. Exit code 0: all agree; 1: something differs; 2: something could not be read.
"""

from __future__ import annotations

import argparse
import json
import sys
from decimal import Decimal
from pathlib import Path

import duckdb
import polars
from deltalake import DeltaTable

import rules

NUMERIC = rules.INTEGERS + rules.ROUNDED + rules.MONEY
# columns of few values, compared by the number of rows of each
CODES = ["vendor", "rate_code", "payment_type", "store_and_fwd"]
TIMES = ["pickup_at", "dropoff_at"]


def facts_by_sql(connection: duckdb.DuckDBPyConnection, relation: str) -> dict:
    """Rows, rows a month and a code, counts and sums of columns, first and last times."""

    def amount(name: str) -> str:
        if name in rules.ROUNDED:
            # doubles: a sum depends on the order of its terms, a sum of integers does not
            return f"sum(CAST(round({name} * 100) AS HUGEINT))"
        return f"sum({name})"

    sums = ", ".join(f"count({n}), {amount(n)}" for n in NUMERIC)
    times = ", ".join(f"CAST(min({t}) AS VARCHAR), CAST(max({t}) AS VARCHAR)" for t in TIMES)
    row = connection.execute(f"SELECT count(*), {sums}, {times} FROM {relation}").fetchone()

    def grouped(key: str) -> dict:
        sql = f"SELECT coalesce(CAST({key} AS VARCHAR), '(none)') AS k, count(*) FROM {relation} GROUP BY k"
        return dict(connection.execute(sql).fetchall())

    facts = {
        "rows": row[0],
        "months": grouped("pickup_year || '-' || pickup_month"),
        "columns": {n: (row[1 + 2 * i], plain(row[2 + 2 * i])) for i, n in enumerate(NUMERIC)},
        "times": {t: row[1 + 2 * (len(NUMERIC) + i) : 3 + 2 * (len(NUMERIC) + i)] for i, t in enumerate(TIMES)},
    }
    return facts | {code: grouped(code) for code in CODES}


def plain(value: object) -> Decimal | None:
    """Any exact number as a decimal, so that 1, 1.0 and Decimal('1.00') compare equal."""
    return None if value is None else Decimal(str(value))


def facts_by_polars(table: str) -> dict:
    """The same facts, computed by Polars."""
    frame = polars.scan_delta(table)
    column = polars.col

    def amount(name: str) -> polars.Expr:
        if name in rules.ROUNDED:
            return (column(name) * 100).round().cast(polars.Int64).sum()
        return column(name).cast(polars.Int64).sum() if name in rules.INTEGERS else column(name).sum()

    exprs = [polars.len().alias("rows")]
    for name in NUMERIC:
        exprs += [column(name).count().alias(f"n_{name}"), amount(name).alias(f"s_{name}")]
    for name in TIMES:
        exprs += [column(name).min().alias(f"min_{name}"), column(name).max().alias(f"max_{name}")]
    row = frame.select(exprs).collect().row(0, named=True)

    def grouped(key: polars.Expr) -> dict:
        text = key.cast(polars.String).fill_null("(none)").alias("k")
        counted = frame.group_by(text).agg(polars.len().alias("n")).collect()
        return dict(zip(counted["k"].to_list(), counted["n"].to_list()))

    counts = {n: row[f"n_{n}"] for n in NUMERIC}
    facts = {
        "rows": row["rows"],
        "months": grouped(column("pickup_year") + "-" + column("pickup_month")),
        "columns": {n: (counts[n], plain(row[f"s_{n}"]) if counts[n] else None) for n in NUMERIC},
        "times": {t: tuple(str(row[f"{end}_{t}"]) for end in ("min", "max")) for t in TIMES},
    }
    return facts | {code: grouped(column(code)) for code in CODES}


def rows_by_pyarrow(table: DeltaTable) -> int:
    """The number of rows as PyArrow's own scan finds it, from one column of data and not from metadata."""
    dataset = table.to_pyarrow_dataset()
    return sum(len(batch) for batch in dataset.scanner(columns=["_offset"]).to_batches())


def positions_are_unique(connection: duckdb.DuckDBPyConnection) -> int:
    """Rows that share their position with another row: 0 in a sound table."""
    return connection.execute(
        "SELECT count(*) - count(DISTINCT (_source, _partition, _offset)) FROM curated"
    ).fetchone()[0]


def differences(what: str, wanted: dict, found: dict) -> list[str]:
    """One line for each fact that differs."""
    lines = []
    if wanted["rows"] != found["rows"]:
        lines.append(f"{what}: {found['rows']} rows, {wanted['rows']} wanted")
    for part in ["months", "columns", "times"] + CODES:
        for key in sorted(set(wanted[part]) | set(found[part])):
            if wanted[part].get(key) != found[part].get(key):
                lines.append(f"{what}: {part} {key}: {found[part].get(key)}, {wanted[part].get(key)} wanted")
    return lines


def manifest_differences(path: Path, wanted: dict) -> list[str]:
    """Checks the oracle itself against what the generator of synthetic trips says it wrote."""
    manifest = json.loads(path.read_text())
    lines = []
    if manifest["accepted"] != wanted["rows"]:
        lines.append(f"oracle: {wanted['rows']} rows, the manifest says {manifest['accepted']}")
    if manifest["pickup_months"] != wanted["months"]:
        lines.append("oracle: rows a month differ from the manifest")
    total = wanted["columns"]["total_amount"][1]
    if total * 100 != manifest["total_amount_cents"]:
        lines.append(f"oracle: total_amount {total}, the manifest says {manifest['total_amount_cents']} cents")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--csv", type=Path, required=True, help="folder of the CSV files")
    parser.add_argument("--table", help="folder of the Delta table; without it only the oracle's facts are printed")
    parser.add_argument("--manifest", type=Path, help="manifest of synthetic trips, to check the oracle itself")
    args = parser.parse_args()

    connection = duckdb.connect()
    connection.execute("SET threads = 2")
    connection.execute(f"CREATE TABLE wanted AS {rules.trips(args.csv)}")
    wanted = facts_by_sql(connection, "wanted")
    lines = manifest_differences(args.manifest, wanted) if args.manifest else []
    print(f"oracle: {wanted['rows']} rows in {len(wanted['months'])} months")
    if args.table:
        table = DeltaTable(args.table)
        connection.register("curated", table.to_pyarrow_dataset())
        lines += differences("duckdb", wanted, facts_by_sql(connection, "curated"))
        lines += differences("polars", wanted, facts_by_polars(args.table))
        rows = rows_by_pyarrow(table)
        if rows != wanted["rows"]:
            lines.append(f"pyarrow: {rows} rows, {wanted['rows']} wanted")
        shared = positions_are_unique(connection)
        if shared:
            lines.append(f"{shared} rows share their position with another")
        print(f"table version {table.version()}: compared by DuckDB, Polars and PyArrow")
    for line in lines:
        print(line)
    print("all agree" if not lines else f"{len(lines)} differences")
    return 1 if lines else 0


if __name__ == "__main__":
    try:
        rules.leave(main())
    except (ValueError, OSError, duckdb.Error) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
