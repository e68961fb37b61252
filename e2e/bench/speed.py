"""Benchmark of the speed layer and of merged answers, on embedded parts.

    make bench-speed          or          python3 e2e/bench/speed.py --tidemark BINARY --index-speed EXAMPLE

Measured are: produce-to-visible throughput, embedded (log on disk, indexer and view in one process) and through HTTP; how
fresh records are at 1,000 and 20,000 a second through HTTP, as the server says it and as a client sees it that asks for
its own record by `at_least`; the four business questions over a table of which 1 % of the rows are live, merged
against the batch part alone; memory for each million of live rows; and bytes a record on disk. It prints figures beside their goals and asserts
nothing but equal answers: machines differ, and what else runs on one counts, so it prints the load, too.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

# first, for it says where the others are
from common import BODY_RECORDS, ROOT, Client, fresh, highest, in_turns, machine, orders, wait_visible  # isort: skip
import trips
from queries import QUERIES
from server import Server
from servers import resident_mb


def up(binary: Path, data: Path, dataset: str, *flags: str) -> Server:
    server = Server(binary, data, ["--batch-interval", "none", *flags])
    if not data.exists():
        server.run("dataset", "apply", str(ROOT / "datasets" / dataset))
    server.start()
    return server


def embedded(example: Path, records: int) -> None:
    print("\nproduce-to-visible, embedded log, decode and transform, in one process, 4 producers (goal 200,000 records/s)")

    def run(how: str, *flags: str) -> None:
        done = subprocess.run([str(example), str(records), "embedded", *flags], capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"{example}: exit code {done.returncode}\n{done.stderr}")
        print(f"  {how}")
        print("".join(f"    {line}\n" for line in done.stdout.splitlines()), end="")

    run("appended and indexed at the same time, from the first append to the last visible row")
    run("one after the other, each with the machine to itself", "apart")


def through_http(binary: Path, work: Path, records: int, producers: int) -> None:
    server = up(binary, work / "http", "orders", "--live-bytes-max", "4GiB")
    bodies = [orders(start, BODY_RECORDS) for start in range(0, records, BODY_RECORDS)]
    answers: list[dict] = []
    before, begun, left = resident_mb(server.process.pid), time.perf_counter(), iter(bodies)
    lock = threading.Lock()

    def produce() -> None:
        client = Client(server)
        while True:
            with lock:
                body = next(left, None)
            if body is None:
                return
            answers.append(client.produce("orders", body))

    threads = [threading.Thread(target=produce) for _ in range(producers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    appended = time.perf_counter() - begun
    wait_visible(server, "orders", highest(answers, "orders"))
    visible = time.perf_counter() - begun
    size = sum(map(len, bodies)) / records
    print(f"\nthe same through HTTP, {producers} producers, bodies of {BODY_RECORDS:,} records of {size:.0f} bytes")
    print(f"  acknowledged {records / appended:,.0f} a second, visible {records / visible:,.0f} a second")
    usage, after = server.ask("GET", "/v1/status")["live"]["usage"], resident_mb(server.process.pid)
    rows = usage["rows"]
    if rows != records:
        raise SystemExit(f"{records} records were produced, and {rows} rows are live")
    print("\nmemory for each million of live rows")
    print(f"  resident {(after - before) / rows * 1e6:.0f} MB (the whole process: log and caches, too; "
          f"{before:.0f} MB before, {after:.0f} after), counted by the view {usage['bytes'] / rows:.0f} MB")
    # what the log still has is archived by then
    server.stop()
    on_disk(server, records)


def disk_bytes(folder: Path) -> int:
    """As `du` counts: what a file set aside and did not write counts for nothing."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def on_disk(server: Server, records: int) -> None:
    """Curates what a server that has ended took in, and says what a record takes in each place."""
    server.run("batch", "run", "orders")
    places = {"log": "log", "raw zone": "store/raw/orders", "curated zone": "store/curated/orders"}
    sizes = ", ".join(f"{name} {disk_bytes(server.data / folder) / records:.0f}" for name, folder in places.items())
    print(f"\nbytes a record on disk, of {records:,} records: {sizes}")


def trips_of(files: list[Path], every: int) -> list[bytes]:
    """Every so many-th trip of the files as JSON bodies."""
    lines = []
    for path in files:
        with path.open(newline="") as file:
            for row in itertools.islice(csv.DictReader(file), 0, None, every):
                lines.append(json.dumps({name: value or None for name, value in row.items()}))
    return ["\n".join(lines[at : at + BODY_RECORDS]).encode() for at in range(0, len(lines), BODY_RECORDS)]


def merged(binary: Path, work: Path, files: list[Path], rounds: int) -> None:
    data = work / "trips"
    loader = Server(binary, data, [])
    loader.run("dataset", "apply", str(ROOT / "datasets" / "trips"))
    loader.run("ingest", "trips", *map(str, files))
    server = up(binary, data, "trips")
    client = Client(server)
    answers = [client.produce("trips", body) for body in trips_of(files, 100)]
    wait_visible(server, "trips", highest(answers, "trips"))
    count = {name: int(client.sql(f"SELECT count(*) FROM {name}.trips")["rows"][0][0]) for name in ("batch", "live", "merged")}
    if count["merged"] != count["batch"] + count["live"] or not count["live"]:
        raise SystemExit(f"the counts do not fit together: {count}")
    print(f"\nfour business questions over HTTP, {count['batch']:,} rows curated and {count['live']:,} live, in turns, "
          f"{rounds} rounds (goal 1.2)")
    in_turns(client, "trips", QUERIES, rounds)
    server.stop()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug"
    parser.add_argument("--tidemark", type=Path, default=target / "tidemark", help="an optimised build")
    parser.add_argument("--index-speed", type=Path, default=target / "examples/index_speed", help="an optimised build")
    parser.add_argument("--trips", type=Path, default=trips.left_by_batch(),
                        help="folder of yellow-taxi CSV [default: what bench-batch left]; without it, no business questions")
    parser.add_argument("--months", type=int, default=30, help="files of them")
    parser.add_argument("--records", type=int, default=1_000_000, help="records of the throughput")
    parser.add_argument("--seconds", type=int, default=30, help="seconds at each rate")
    parser.add_argument("--rounds", type=int, default=25, help="rounds of the questions")
    parser.add_argument("--work", type=Path, default=ROOT / "target/bench-speed")
    args = parser.parse_args()
    shutil.rmtree(args.work, ignore_errors=True)
    args.work.mkdir(parents=True)
    print(machine())
    embedded(args.index_speed, args.records)
    through_http(args.tidemark, args.work, args.records, producers=4)
    print("\nfreshness, from the producer's append to visible (goal p99 < 50 ms)")
    for rate in (1_000, 20_000):
        server = up(args.tidemark, args.work / f"fresh-{rate}", "orders")
        print(fresh(server, rate, args.seconds))
        server.stop()
    files = sorted(args.trips.glob("*.csv"))[-args.months :] if args.trips else []
    if files:
        print(f"\nthe newest {len(files)} files of {args.trips.name}")
        merged(args.tidemark, args.work, files, args.rounds)
    else:
        print("\nno trips, so no business questions: run `make bench-batch` first, or name a folder with --trips")
    print(f"\nload {os.getloadavg()[0]:.1f} at the end")
    shutil.rmtree(args.work)
    return 0


if __name__ == "__main__":
    sys.exit(main())
