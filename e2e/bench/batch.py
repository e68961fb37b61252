"""Benchmark of the batch layer against DuckDB, in the same run, on the same files, with the same two threads.

    make bench-batch          or          .venv/bin/python e2e/bench/batch.py --tidemark BINARY

The trips are *replicated*: each real file's rows, `--copies` times, with dates shifted by minutes, so that months and
the number of partitions stay about the same. Where there are no real ones (`TIDEMARK_TRIPS_DIR`), synthetic ones stand in,
and the output says so. Measured are CSV to partitioned Snappy Parquet (time, peak memory, bytes
written), four queries (in a session that has run them before, and alone in a new one; the engines take turns), and adding
one month to a table of 30 months against adding it to an empty one. It prints ratios beside their goals and asserts
nothing but equal answers: machines differ.

DuckDB writes the curated columns by the rules of e2e/oracle/rules.py. Tidemark also hashes and keeps the raw files,
writes the position columns, and leaves a transactional table: all of that is in its time.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "e2e" / "oracle"))

import duckdb  # noqa: E402
import rules  # noqa: E402
import trips  # noqa: E402
from common import compare, machine  # noqa: E402
from queries import QUERIES  # noqa: E402

THREADS = 2
DUCKDB_MEMORY = "4GB"


def replicate(path: Path, out: Path, copies: int, later: str) -> None:
    """Writes a file with `copies` times the rows of `path`; the dates of copy k are shifted by `later` and k times 37
    minutes."""
    if out.exists():
        return
    times = ", ".join(
        f"strftime(CAST({c} AS TIMESTAMP) + {later} + k * INTERVAL 37 MINUTE, '%Y-%m-%d %H:%M:%S') AS {c}"
        for c in ("tpep_pickup_datetime", "tpep_dropoff_datetime")
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_suffix(".part")
    duckdb.connect().execute(
        f"COPY (SELECT * EXCLUDE (k) REPLACE ({times}) "
        f"FROM read_csv('{path}', all_varchar = true, header = true), range({copies}) AS copy(k)) "
        f"TO '{part}' (FORMAT csv, HEADER, DELIMITER ',')"
    )
    part.rename(out)


def measured(command: list[str], env: dict[str, str] | None = None) -> tuple[float, float, str]:
    """Runs a command; seconds, peak memory in MB, standard output. A failure ends the benchmark."""
    begun = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **(env or {})})
    output = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - begun
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        raise SystemExit(f"{' '.join(command[:6])} …: exit code {child.returncode}\n{output[-2000:]}")
    return seconds, usage.ru_maxrss * 1024 / 1e6, output


def bytes_of(folder: Path, suffix: str = ".parquet") -> int:
    return sum(p.stat().st_size for p in folder.rglob(f"*{suffix}"))


class Tidemark:
    def __init__(self, binary: Path, data: Path) -> None:
        self.command = [str(binary), "--data-dir", str(data)]
        self.data = data
        if data.exists():
            shutil.rmtree(data)
        measured(self.command + ["dataset", "apply", str(ROOT / "datasets" / "trips")])

    def ingest(self, paths: list[Path]) -> tuple[float, float, dict]:
        seconds, memory, out = measured(self.command + ["ingest", "trips", *map(str, paths), "--json"])
        return seconds, memory, json.loads(out)

    def session(self, queries: list[str], work: Path) -> list[float]:
        """Seconds of each query in one process that has run all of them before: from the end of the answer before it,
        as it is told on standard error, to the end of its own."""
        file = work / "queries.sql"
        file.write_text(";\n".join(queries + queries))
        command = self.command + ["sql", "-f", str(file), "--format", "ndjson", "--stats", "--threads", str(THREADS)]
        ends = []
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for line in child.stderr:
            if re.match(r"[0-9,]+ rows? in ", line):
                ends.append(time.perf_counter())
        if child.wait() != 0 or len(ends) != 2 * len(queries):
            raise SystemExit(f"{' '.join(command)}: exit code {child.returncode}, {len(ends)} answers")
        return [end - begun for begun, end in zip(ends, ends[1:])][len(queries) - 1 :]

    def sql(self, query: str) -> tuple[float, float, list]:
        """Seconds that the engine of a new process reports, seconds with the process's start, rows."""
        wall, _, out = measured(self.command + ["sql", query, "--format", "json", "--threads", str(THREADS)])
        document = json.loads(out)
        return document["stats"]["elapsed_ms"] / 1000, wall, document["rows"]

    def table_bytes(self) -> int:
        return bytes_of(self.data / "store" / "curated" / "trips")


def duckdb_convert(csv: Path, out: Path) -> tuple[float, float]:
    """CSV to Parquet by DuckDB in a process of its own, so that its peak memory can be told."""
    if out.exists():
        shutil.rmtree(out)
    program = (
        "import sys, duckdb; sys.path.insert(0, sys.argv[1]); import rules; from pathlib import Path\n"
        "c = duckdb.connect()\n"
        f"c.execute('SET threads = {THREADS}'); c.execute(\"SET memory_limit = '{DUCKDB_MEMORY}'\")\n"
        "c.execute('SET preserve_insertion_order = false')\n"
        "c.execute(f\"COPY ({rules.trips(Path(sys.argv[2]), strict=True)}) TO '{sys.argv[3]}' "
        "(FORMAT parquet, COMPRESSION snappy, PARTITION_BY (pickup_year, pickup_month))\")"
    )
    command = [sys.executable, "-c", program, str(ROOT / "e2e" / "oracle"), str(csv), str(out)]
    seconds, memory, _ = measured(command)
    return seconds, memory


def in_order(rows: list) -> list:
    """Not all questions ask for an order."""
    return sorted(rows, key=lambda row: [(cell is None, str(cell)) for cell in row])


def conversion(tidemark: Tidemark, csv: Path, work: Path) -> None:
    files = rules.csv_files(csv)
    raw = sum(p.stat().st_size for p in files)
    theirs, their_memory = duckdb_convert(csv, work / "duckdb")
    ours, our_memory, report = tidemark.ingest([csv])
    counts = report["counts"]
    our_bytes, their_bytes = tidemark.table_bytes(), bytes_of(work / "duckdb")
    print(f"\nCSV to partitioned Snappy Parquet: {counts['records']} records (replicated), {raw / 1e6:.0f} MB of CSV")
    print(f"  {'':10} {'time':>9} {'peak memory':>13} {'written':>11}")
    print(f"  tidemark   {ours:7.1f} s {our_memory:10.0f} MB {our_bytes / 1e6:8.1f} MB ({our_bytes / raw:.1%} of the CSV)")
    print(f"  duckdb     {theirs:7.1f} s {their_memory:10.0f} MB {their_bytes / 1e6:8.1f} MB")
    print(f"  time ratio {ours / theirs:.2f} (goal 1.0), peak memory {our_memory / 1000:.2f} GB (goal 0.7)")
    print(f"  accepted {counts['accepted']}, filtered {counts['filtered']}, rejected {counts['rejected']}")


def duckdb_session() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    connection.execute(f"SET threads = {THREADS}")
    connection.execute(f"SET memory_limit = '{DUCKDB_MEMORY}'")
    return connection


def duckdb_query(connection: duckdb.DuckDBPyConnection, query: str) -> tuple[float, list]:
    begun = time.perf_counter()
    answer = connection.execute(query).fetchall()
    return time.perf_counter() - begun, [list(row) for row in answer]


def queries(tidemark: Tidemark, work: Path, rounds: int) -> None:
    """Each query in a session that has run it before, and in a new one. A round asks both engines for all of it."""
    # types as text: what DuckDB would take for numbers in folder names are strings in the curated table
    relation = (
        f"read_parquet('{work}/duckdb/**/*.parquet', hive_partitioning = true, "
        "hive_types = {'pickup_year': VARCHAR, 'pickup_month': VARCHAR})"
    )
    ours = {name: query.format(t="batch.trips") for name, query in QUERIES.items()}
    theirs = {name: query.format(t=relation) for name, query in QUERIES.items()}
    connection = duckdb_session()
    kinds = ("warm", "new", "process")
    times = {(kind, who, name): [] for kind in kinds for who in ("tidemark", "duckdb") for name in QUERIES}
    for round_number in range(rounds + 1):
        warm = tidemark.session(list(ours.values()), work)
        for name, seconds in zip(QUERIES, warm):
            engine, process, rows = tidemark.sql(ours[name])
            fresh, answer = duckdb_query(duckdb_session(), theirs[name])
            compare(name, in_order(rows), in_order(answer), "of DuckDB")
            their_warm, _ = duckdb_query(connection, theirs[name])
            # the first round warms the file cache, and DuckDB's session
            if round_number > 0:
                times["warm", "tidemark", name].append(seconds)
                times["warm", "duckdb", name].append(their_warm)
                times["new", "tidemark", name].append(engine)
                times["new", "duckdb", name].append(fresh)
                times["process", "tidemark", name].append(process)
    print_queries({key: 1000 * statistics.median(taken) for key, taken in times.items() if taken}, rounds)


def print_queries(ms: dict[tuple[str, str, str], float], rounds: int) -> None:
    print(f"\nfour queries, medians of {rounds} rounds (ms): in a session that has run them before; and alone in a new one")
    print("as its engine reports, for tidemark with the process's start in brackets")
    for kind in ("warm", "new"):
        ratios = {name: ms[kind, "tidemark", name] / ms[kind, "duckdb", name] for name in QUERIES}
        mean = math.exp(statistics.mean(map(math.log, ratios.values())))
        for name, ratio in ratios.items():
            ours, theirs = ms[kind, "tidemark", name], ms[kind, "duckdb", name]
            brackets = f" ({ms['process', 'tidemark', name]:5.0f})" if kind == "new" else " " * 8
            print(f"  {kind:<5} {name:<20} tidemark {ours:7.1f}{brackets}   duckdb {theirs:7.1f}   ratio {ratio:.2f}")
        goal = " (goal 1.2)" if kind == "warm" else ""
        print(f"  {kind:<5} geometric mean {mean:.2f}{goal}")


def one_more_month(tidemark: Tidemark, binary: Path, csv: Path, source: Path, copies: int, work: Path) -> None:
    """The same new month into the full table and into an empty one; three months, one after the other."""
    last = rules.csv_files(source)[-1]
    full, empty = [], []
    for number in range(1, 4):
        file = work / f"later-{csv.name}" / f"replicated_later_{number}.csv"
        # whole months later, so that each is a partition that the table does not have yet
        replicate(last, file, copies, f"INTERVAL {30 * number} DAY")
        empty.append(Tidemark(binary, work / f"empty-{number}").ingest([file])[0])
        full.append(tidemark.ingest([file])[0])
    ratio = statistics.median(full) / statistics.median(empty)
    print("\none more month (replicated), medians of three")
    print(f"  into {len(rules.csv_files(csv))} months {statistics.median(full):.2f} s, into an empty table "
          f"{statistics.median(empty):.2f} s: ratio {ratio:.2f} (goal 1.2)")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tidemark", type=Path, default=ROOT / "target/debug/tidemark", help="an optimised build")
    parser.add_argument("--trips", type=Path, help="folder of yellow-taxi CSV [default: real ones, else synthetic ones]")
    parser.add_argument("--copies", type=int, default=trips.COPIES, help="times that each row is replicated")
    parser.add_argument("--rounds", type=int, default=7, help="rounds of the queries")
    parser.add_argument("--work", type=Path, default=trips.WORK)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    print(machine())
    source = args.trips or trips.real()
    csv = trips.replicated(args.work, args.copies, synthetic=source is None)
    if source is None:
        print("synthetic trips: no real ones are at hand, so figures are not those of the README's trips")
        source = trips.synthetic(args.tidemark.parent / "synthetic_trips", args.work)
    for path in rules.csv_files(source):
        replicate(path, csv / f"replicated_{path.name}", args.copies, "INTERVAL 0 DAY")
    print(f"tidemark {args.tidemark} against duckdb {duckdb.__version__}, {THREADS} threads each, DuckDB's memory limit "
          f"{DUCKDB_MEMORY}")
    os.environ["TIDEMARK_BATCH_THREADS"] = str(THREADS)
    tidemark = Tidemark(args.tidemark, args.work / "tidemark")
    conversion(tidemark, csv, args.work)
    queries(tidemark, args.work, args.rounds)
    one_more_month(tidemark, args.tidemark, csv, source, args.copies, args.work)
    return 0


if __name__ == "__main__":
    sys.exit(main())
