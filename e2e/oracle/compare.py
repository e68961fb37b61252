"""Compares a curated trips table with what DuckDB computes from the same CSV files by rules of its own.

    python e2e/oracle/compare.py --csv DIR --table DIR [--manifest FILE]

The table is read three times: by DuckDB and by PyArrow through `DeltaTable(…).to_pyarrow_dataset()`, and by Polars.
Compared are the number of rows, rows a pickup month, count and sum of every numeric column (decimals exactly), and
rows a payment type. Exit code 0: all agree; 1: something differs; 2: something could not be read.
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


def facts_by_sql(connection: duckdb.DuckDBPyConnection, relation: str, names: dict[str, str]) -> dict:
    """Rows, rows a month, counts and sums of `relation`; `names` maps the rules' names to the relation's columns."""

    def amount(name: str) -> str:
        column = names[name]
        if name in rules.ROUNDED:
            # doubles: a sum depends on the order of its terms, a sum of integers does not
            return f"sum(CAST(round({column} * 100) AS HUGEINT))"
        return f"sum({column})"

    sums = ", ".join(f"count({names[n]}), {amount(n)}" for n in NUMERIC)
    row = connection.execute(f"SELECT count(*), {sums} FROM {relation}").fetchone()
    months = connection.execute(
        f"SELECT {names['pickup_year']} || '-' || {names['pickup_month']} AS m, count(*) FROM {relation} GROUP BY m"
    ).fetchall()
    paid = connection.execute(
        f"SELECT coalesce(CAST({names['payment_name']} AS VARCHAR), '(none)') AS p, count(*) FROM {relation} GROUP BY p"
    ).fetchall()
    return {
        "rows": row[0],
        "months": dict(months),
        "columns": {n: (row[1 + 2 * i], plain(row[2 + 2 * i])) for i, n in enumerate(NUMERIC)},
        "payments": dict(paid),
    }


def plain(value: object) -> Decimal | None:
    """Any exact number as a decimal, so that 1, 1.0 and Decimal('1.00') compare equal."""
    return None if value is None else Decimal(str(value))


def facts_by_polars(table: str, names: dict[str, str]) -> dict:
    """The same facts, computed by Polars."""
    frame = polars.scan_delta(table)
    column = polars.col

    def amount(name: str) -> polars.Expr:
        this = column(names[name])
        if name in rules.ROUNDED:
            return (this * 100).round().cast(polars.Int64).sum()
        return this.cast(polars.Int64).sum() if name in rules.INTEGERS else this.sum()

    exprs = [polars.len().alias("rows")]
    for name in NUMERIC:
        exprs += [column(names[name]).count().alias(f"n_{name}"), amount(name).alias(f"s_{name}")]
    row = frame.select(exprs).collect().row(0, named=True)
    month = (column(names["pickup_year"]) + "-" + column(names["pickup_month"])).alias("m")
    months = frame.group_by(month).agg(polars.len().alias("n")).collect()
    payment = column(names["payment_name"]).cast(polars.String).fill_null("(none)").alias("p")
    paid = frame.group_by(payment).agg(polars.len().alias("n")).collect()
    empty_is_null = {n: row[f"n_{n}"] for n in NUMERIC}
    return {
        "rows": row["rows"],
        "months": dict(zip(months["m"].to_list(), months["n"].to_list())),
        "columns": {n: (empty_is_null[n], plain(row[f"s_{n}"]) if empty_is_null[n] else None) for n in NUMERIC},
        "payments": dict(zip(paid["p"].to_list(), paid["n"].to_list())),
    }


def rows_by_pyarrow(table: DeltaTable) -> int:
    """The number of rows as PyArrow's own scan finds it, from one column of data and not from metadata."""
    dataset = table.to_pyarrow_dataset()
    return sum(len(batch) for batch in dataset.scanner(columns=["_offset"]).to_batches())


def positions_are_unique(connection: duckdb.DuckDBPyConnection) -> int:
    """Rows that share their position with another row: 0 in a sound table."""
    return connection.execute(
        "SELECT count(*) - count(DISTINCT (_source, _partition, _offset)) FROM curated"
    ).fetchone()[0]


def column_names(present: list[str]) -> dict[str, str]:
    """Maps the rules' names to the table's: each under its own name or a known other one."""
    others = {
        "pickup_zone": ["pickup_location_id", "pickup_zone_id", "pu_location_id"],
        "dropoff_zone": ["dropoff_location_id", "dropoff_zone_id", "do_location_id"],
        "payment_name": ["payment_type", "payment"],
        "trip_distance": ["trip_miles", "distance_miles"],
    }
    found: dict[str, str] = {}
    for name in NUMERIC + ["pickup_year", "pickup_month", "payment_name"]:
        candidates = [name] + others.get(name, [])
        match = next((c for c in candidates if c in present), None)
        if match is None:
            raise ValueError(f"the table has no column for {name}: it has {', '.join(present)}")
        found[name] = match
    return found


def differences(what: str, wanted: dict, found: dict) -> list[str]:
    """One line for each fact that differs."""
    lines = []
    if wanted["rows"] != found["rows"]:
        lines.append(f"{what}: {found['rows']} rows, {wanted['rows']} wanted")
    for part in ("months", "columns", "payments"):
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
    own = {n: n for n in NUMERIC + ["pickup_year", "pickup_month", "payment_name"]}
    wanted = facts_by_sql(connection, "wanted", own)
    lines = manifest_differences(args.manifest, wanted) if args.manifest else []
    print(f"oracle: {wanted['rows']} rows in {len(wanted['months'])} months")
    if args.table:
        table = DeltaTable(args.table)
        dataset = table.to_pyarrow_dataset()
        names = column_names(dataset.schema.names)
        connection.register("curated", dataset)
        lines += differences("duckdb", wanted, facts_by_sql(connection, "curated", names))
        lines += differences("polars", wanted, facts_by_polars(args.table, names))
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
        sys.exit(main())
    except (ValueError, OSError, duckdb.Error) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
