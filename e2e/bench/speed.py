"""Benchmark of the speed layer and of merged answers, on embedded parts.

    make bench-speed          or          python3 e2e/bench/speed.py --tidemark BINARY --index-speed EXAMPLE

Measured are: produce-to-visible throughput, embedded (log on disk, indexer and view in one process) and through HTTP; how
fresh records are at 1,000 and 20,000 a second through HTTP, as the server says it and as a client sees it that asks for
its own record by `at_least`; the four business questions over a table of which 1 % of the rows are live, merged
against the batch part alone; and memory for each million of live rows. It prints figures beside their goals and asserts
nothing but equal answers: machines differ, and what else runs on one counts, so it prints the load, too.
"""

from __future__ import annotations

import argparse
import csv
import http.client
import itertools
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "e2e" / "chaos"), str(ROOT / "e2e" / "bench")]

from queries import QUERIES  # noqa: E402
from server import Server  # noqa: E402

BODY_RECORDS = 10_000
#: Appends that a producer at a steady rate makes a second.
TICKS = 50
NDJSON = {"content-type": "application/x-ndjson"}
JSON = {"content-type": "application/json"}


class Client:
    """A connection that stays open."""

    def __init__(self, server: Server) -> None:
        self.connection = http.client.HTTPConnection(*server.address, timeout=120)

    def ask(self, path: str, body: bytes, headers: dict) -> dict:
        self.connection.request("POST", path, body, headers)
        answer = self.connection.getresponse()
        document = json.loads(answer.read())
        if answer.status >= 300:
            raise SystemExit(f"{path}: {answer.status} {document}")
        return document

    def produce(self, dataset: str, body: bytes) -> dict:
        return self.ask(f"/v1/datasets/{dataset}/records", body, NDJSON)

    def sql(self, statement: str, **more: object) -> dict:
        return self.ask("/v1/sql", json.dumps({"sql": statement, **more}).encode(), JSON)


def order(number: int) -> str:
    """About 200 bytes."""
    return (
        f'{{"id": "7f3c9a52-0000-4000-8000-{number:012}", "cents": {number % 100_000}, '
        f'"at": "2025-{number % 12 + 1:02}-11T08:15:{number % 60:02}.250Z", "customer": "customer-{number % 50_000}", '
        f'"country": "DE", "note": "left at the door of the neighbour, third floor"}}'
    )


def orders(start: int, count: int) -> bytes:
    return "\n".join(map(order, range(start, start + count))).encode()


def up(binary: Path, data: Path, dataset: str, *flags: str) -> Server:
    server = Server(binary, data, ["--batch-interval", "none", *flags])
    if not data.exists():
        server.run("dataset", "apply", str(ROOT / "datasets" / dataset))
    server.start()
    return server


def wait_visible(server: Server, dataset: str, ends: dict) -> None:
    Client(server).sql(f"SELECT count(*) FROM live.{dataset}", at_least=ends, timeout_ms=120_000)


def highest(answers: list[dict], dataset: str) -> dict:
    ends: dict[str, int] = {}
    for answer in answers:
        for partition, end in answer["at_least"][dataset].items():
            ends[partition] = max(end, ends.get(partition, 0))
    return {dataset: ends}


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, math.ceil(share * len(values)) - 1)]


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


def resident_mb(server: Server) -> float:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in status.splitlines() if line.startswith("VmRSS"))


def through_http(binary: Path, work: Path, records: int, producers: int) -> None:
    server = up(binary, work / "http", "orders", "--live-bytes-max", "4GiB")
    bodies = [orders(start, BODY_RECORDS) for start in range(0, records, BODY_RECORDS)]
    answers: list[dict] = []
    before, begun, left = resident_mb(server), time.perf_counter(), iter(bodies)
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
    usage, after = server.ask("GET", "/v1/status")["live"]["usage"], resident_mb(server)
    rows = usage["rows"]
    if rows != records:
        raise SystemExit(f"{records} records were produced, and {rows} rows are live")
    print("\nmemory for each million of live rows")
    print(f"  resident {(after - before) / rows * 1e6:.0f} MB (the whole process: log and caches, too; "
          f"{before:.0f} MB before, {after:.0f} after), counted by the view {usage['bytes'] / rows:.0f} MB")
    server.stop()


def fresh(binary: Path, work: Path, rate: int, seconds: int) -> None:
    """A producer at a steady rate, and beside it a client that produces one record and asks until it has it."""
    server = up(binary, work / f"fresh-{rate}", "orders")
    each, seen, late = rate // TICKS, [], []
    bodies = [orders(start, each) for start in range(0, each * TICKS, each)]
    ended, tick = threading.Event(), threading.Event()

    def produce() -> None:
        client, begun = Client(server), time.perf_counter()
        for number, body in zip(range(seconds * TICKS), itertools.cycle(bodies)):
            due = begun + number / TICKS
            tick.wait(max(0.0, due - time.perf_counter()))
            late.append(time.perf_counter() - due)
            client.produce("orders", body)
        ended.set()

    def look() -> None:
        client = Client(server)
        for number in itertools.count(10_000_000):
            if ended.wait(0.05):
                return
            begun = time.perf_counter()
            at_least = client.produce("orders", orders(number, 1))["at_least"]
            acknowledged = time.perf_counter()
            client.sql("SELECT count(*) FROM live.orders", at_least=at_least)
            seen.append((acknowledged - begun, time.perf_counter() - begun))

    threads = [threading.Thread(target=work) for work in (produce, look)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    status = next(d for d in server.ask("GET", "/v1/status")["datasets"] if d["dataset"] == "orders")["freshness"]
    in_ms = [[1000 * value for value in column] for column in zip(*seen)]
    print(f"  {rate:>6,} records/s: server p50 {status['p50_ms']} ms, p99 {status['p99_ms']} ms of {status['count']:,} records; "
          f"a client has its record p50 {percentile(in_ms[1], 0.5):.1f} ms, p99 {percentile(in_ms[1], 0.99):.1f} ms of "
          f"{len(seen)} (acknowledged p50 {percentile(in_ms[0], 0.5):.1f} ms, p99 {percentile(in_ms[0], 0.99):.1f} ms); "
          f"the producer was late by at most {1000 * max(late):.0f} ms")
    server.stop()


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
    both = "(SELECT * FROM batch.trips UNION ALL SELECT * FROM live.trips)"
    ratios = []
    for name, query in QUERIES.items():
        ours, derived = (client.sql(query.format(t=t))["rows"] for t in ("merged.trips", both))
        compare(name, ours, derived)
        times: dict[str, list[float]] = {"merged": [], "batch": []}
        for number in range(2 * rounds):
            table = ("merged", "batch")[(number + number // 2) % 2]
            begun = time.perf_counter()
            client.sql(query.format(t=f"{table}.trips"))
            times[table].append(1000 * (time.perf_counter() - begun))
        least = {table: min(taken) for table, taken in times.items()}
        median = {table: statistics.median(taken) for table, taken in times.items()}
        ratios.append(median["merged"] / median["batch"])
        print(f"  {name:<20} merged {least['merged']:6.1f} / {median['merged']:6.1f} ms   batch {least['batch']:6.1f} / "
              f"{median['batch']:6.1f} ms (least / median)   ratio {least['merged'] / least['batch']:.2f} / {ratios[-1]:.2f}")
    print(f"  geometric mean of the medians' ratios {statistics.geometric_mean(ratios):.2f}")
    server.stop()


def compare(name: str, ours: list, derived: list) -> None:
    def same(a: object, b: object) -> bool:
        try:
            return math.isclose(float(a), float(b), rel_tol=1e-9)
        except (TypeError, ValueError):
            return a == b

    fits = len(ours) == len(derived) and all(len(a) == len(b) and all(map(same, a, b)) for a, b in zip(ours, derived))
    if not fits:
        raise SystemExit(f"{name}: the merged answer differs from that of both parts\n{ours[:5]}\n{derived[:5]}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug"
    parser.add_argument("--tidemark", type=Path, default=target / "tidemark", help="an optimised build")
    parser.add_argument("--index-speed", type=Path, default=target / "examples/index_speed", help="an optimised build")
    parser.add_argument("--trips", type=Path, default=ROOT / "target/bench-batch/replicated-30",
                        help="folder of yellow-taxi CSV, as bench-batch leaves it; without it, no business questions")
    parser.add_argument("--months", type=int, default=30, help="files of them")
    parser.add_argument("--records", type=int, default=1_000_000, help="records of the throughput")
    parser.add_argument("--seconds", type=int, default=30, help="seconds at each rate")
    parser.add_argument("--rounds", type=int, default=25, help="rounds of the questions")
    parser.add_argument("--work", type=Path, default=ROOT / "target/bench-speed")
    args = parser.parse_args()
    shutil.rmtree(args.work, ignore_errors=True)
    args.work.mkdir(parents=True)
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before anything was started")
    embedded(args.index_speed, args.records)
    through_http(args.tidemark, args.work, args.records, producers=4)
    print("\nfreshness, from the producer's append to visible (goal p99 < 50 ms)")
    for rate in (1_000, 20_000):
        fresh(args.tidemark, args.work, rate, args.seconds)
    files = sorted(args.trips.glob("*.csv"))
    files = files[-args.months :]
    if files:
        merged(args.tidemark, args.work, files, args.rounds)
    else:
        print(f"\nno trips at {args.trips}: run `make bench-batch` first, or name a folder with --trips")
    print(f"\nload {os.getloadavg()[0]:.1f} at the end")
    shutil.rmtree(args.work)
    return 0


if __name__ == "__main__":
    sys.exit(main())
