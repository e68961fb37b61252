"""The cleaning rules of datasets/trips, written a second time: as SQL for DuckDB, independent of Tidemark's code.

Every function returns SQL text. The result of `trips` has the columns of the curated table that are compared, one row
per accepted record. What Tidemark rejects (a wrong number of fields, a value that its column can't hold, a local time
that New York skips), this SQL leaves out.
"""

from __future__ import annotations

import gzip
import os
import sys
from pathlib import Path

# Column types as written in the files. DuckDB takes congestion_surcharge for text when it may guess.
NEW_LAYOUT = {
    "vendor": ("VendorID", "INTEGER"),
    "pickup_at": ("tpep_pickup_datetime", "TIMESTAMP"),
    "dropoff_at": ("tpep_dropoff_datetime", "TIMESTAMP"),
    "passenger_count": ("passenger_count", "INTEGER"),
    "trip_distance": ("trip_distance", "DOUBLE"),
    "rate_code": ("RatecodeID", "INTEGER"),
    "flag": ("store_and_fwd_flag", "VARCHAR"),
    "pickup_location_id": ("PULocationID", "INTEGER"),
    "dropoff_location_id": ("DOLocationID", "INTEGER"),
    "payment": ("payment_type", "INTEGER"),
    "fare_amount": ("fare_amount", "DOUBLE"),
    "extra": ("extra", "DOUBLE"),
    "mta_tax": ("mta_tax", "DOUBLE"),
    "tip_amount": ("tip_amount", "DOUBLE"),
    "tolls_amount": ("tolls_amount", "DOUBLE"),
    "improvement_surcharge": ("improvement_surcharge", "DOUBLE"),
    "total_amount": ("total_amount", "DOUBLE"),
    "congestion_surcharge": ("congestion_surcharge", "DOUBLE"),
}

OLD_LAYOUT = {
    "vendor": ("vendor_id", "VARCHAR"),
    "pickup_at": ("pickup_datetime", "TIMESTAMP"),
    "dropoff_at": ("dropoff_datetime", "TIMESTAMP"),
    "passenger_count": ("passenger_count", "INTEGER"),
    "trip_distance": ("trip_distance", "DOUBLE"),
    "pickup_longitude": ("pickup_longitude", "DOUBLE"),
    "pickup_latitude": ("pickup_latitude", "DOUBLE"),
    "rate_code": ("rate_code", "INTEGER"),
    "flag": ("store_and_fwd_flag", "VARCHAR"),
    "dropoff_longitude": ("dropoff_longitude", "DOUBLE"),
    "dropoff_latitude": ("dropoff_latitude", "DOUBLE"),
    "payment": ("payment_type", "VARCHAR"),
    "fare_amount": ("fare_amount", "DOUBLE"),
    "extra": ("surcharge", "DOUBLE"),
    "mta_tax": ("mta_tax", "DOUBLE"),
    "tip_amount": ("tip_amount", "DOUBLE"),
    "tolls_amount": ("tolls_amount", "DOUBLE"),
    "total_amount": ("total_amount", "DOUBLE"),
}

# Money is a decimal with two digits in the curated table; the files have it as text of a binary fraction.
MONEY = [
    "fare_amount",
    "extra",
    "mta_tax",
    "tip_amount",
    "tolls_amount",
    "improvement_surcharge",
    "congestion_surcharge",
    "total_amount",
]

# Exact integers and codes; compared by count and sum.
INTEGERS = ["passenger_count", "pickup_location_id", "dropoff_location_id"]

# Hundredths of a mile in the sample; compared after rounding to that, which makes the sum exact.
ROUNDED = ["trip_distance"]


def layout_of(path: Path) -> dict[str, tuple[str, str]]:
    """The layout that a file's header names; an unknown one is an error, for nothing may be compared by half."""
    opened = gzip.open(path, "rt") if path.suffix == ".gz" else open(path, encoding="utf-8")
    with opened as text:
        names = [name.strip().lower() for name in text.readline().strip().split(",")]
    for layout in (NEW_LAYOUT, OLD_LAYOUT):
        if names == [source.lower() for source, _ in layout.values()]:
            return layout
    raise ValueError(f"{path.name}: a header that the oracle has no rules for: {','.join(names)}")


def is_csv(path: Path) -> bool:
    """Whether a file is taken for CSV, by its name."""
    return path.name.endswith((".csv", ".csv.gz"))


def csv_files(folder: Path) -> list[Path]:
    """The CSV files of a folder, by name."""
    files = sorted(path for path in folder.iterdir() if is_csv(path))
    if not files:
        raise ValueError(f"no CSV file in {folder}")
    return files


def quoted(text: str) -> str:
    """A SQL string."""
    return "'" + text.replace("'", "''") + "'"


def read(files: list[Path], layout: dict[str, tuple[str, str]], strict: bool) -> str:
    """Reads files of one layout with explicit types; lines that do not fit are left out, or with `strict` an error."""
    types = ", ".join(f"{name}: '{kind}'" for name, (_, kind) in layout.items())
    paths = ", ".join(quoted(str(p)) for p in files)
    return (
        f"read_csv([{paths}], header = true, auto_detect = false, delim = ',', quote = '\"', "
        f"ignore_errors = {str(not strict).lower()}, null_padding = false, columns = {{{types}}})"
    )


def one_layout(files: list[Path], layout: dict[str, tuple[str, str]], strict: bool) -> str:
    """The curated columns from files of one layout."""

    def has(name: str, sql: str, kind: str) -> str:
        return sql if name in layout else f"CAST(NULL AS {kind})"

    columns = [
        f"{vendor_name()} AS vendor",
        "pickup_at",
        "dropoff_at",
        "passenger_count",
        "round(trip_distance, 2) AS trip_distance",
        f"{rate_name()} AS rate_code",
        "flag = 'Y' AS store_and_fwd",
        has("pickup_location_id", "pickup_location_id", "INTEGER") + " AS pickup_location_id",
        has("dropoff_location_id", "dropoff_location_id", "INTEGER") + " AS dropoff_location_id",
        f"{payment_name()} AS payment_type",
    ]
    columns += [has(m, f"CAST(round({m}, 2) AS DECIMAL(10, 2))", "DECIMAL(10, 2)") + f" AS {m}" for m in MONEY]
    return f"SELECT {', '.join(columns)} FROM {read(files, layout, strict)}"


def skipped_hour(column: str) -> str:
    """True for a local time that New York skips: 02:00 to 03:00 on the second Sunday of March (since 2007)."""
    first = f"make_date(year({column}), 3, 1)"
    second_sunday = f"({first} + CAST((7 - isodow({first})) % 7 + 7 AS INTEGER))"
    return f"(year({column}) >= 2007 AND CAST({column} AS DATE) = {second_sunday} AND hour({column}) = 2)"


def by_code(column: str, names: dict[str, str]) -> str:
    """A word for each code; a code without one stays as it is."""
    whens = " ".join(f"WHEN {quoted(code)} THEN {quoted(name)}" for code, name in names.items())
    return f"CASE CAST({column} AS VARCHAR) {whens} ELSE CAST({column} AS VARCHAR) END"


def vendor_name() -> str:
    """The meter's maker: a number in new files."""
    return by_code("vendor", {"1": "CMT", "2": "VTS"})


def rate_name() -> str:
    """The tariff."""
    names = ["standard", "jfk", "newark", "nassau or westchester", "negotiated", "group"]
    return by_code("rate_code", {str(code): name for code, name in enumerate(names, 1)} | {"99": "unknown"})


def payment_name() -> str:
    """How a passenger paid: the files have numbers or abbreviations."""
    names = ["credit card", "cash", "no charge", "dispute", "unknown", "voided"]
    words = {"CRD": "credit card", "CSH": "cash", "NOC": "no charge", "DIS": "dispute"}
    return by_code("payment", {str(code): name for code, name in enumerate(names, 1)} | words)


def trips(folder: Path, strict: bool = False) -> str:
    """All accepted records of a folder of CSV files, as rows with the compared columns."""
    groups: list[tuple[dict[str, tuple[str, str]], list[Path]]] = []
    for path in csv_files(folder):
        layout = layout_of(path)
        for known, files in groups:
            if known is layout:
                files.append(path)
                break
        else:
            groups.append((layout, [path]))
    union = " UNION ALL ".join(one_layout(files, layout, strict) for layout, files in groups)
    return f"""SELECT *,
        strftime(pickup_at, '%Y') AS pickup_year,
        strftime(pickup_at, '%m') AS pickup_month
      FROM ({union})
      WHERE pickup_at IS NOT NULL AND NOT coalesce({skipped_hour('pickup_at')}, false)"""


def leave(code: int) -> None:
    """Ends the process without the interpreter's shutdown, in which threads of PyArrow can abort it after all is said."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
