"""What benchmarks of the speed layer share: orders, a client whose connection stays open, freshness under load, questions in
turns. Standard library only."""

from __future__ import annotations

import http.client
import itertools
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "e2e" / "chaos"), str(ROOT / "e2e" / "bench")]

from server import Server  # noqa: E402

BODY_RECORDS = 10_000
#: Appends that a producer at a steady rate makes a second.
TICKS = 50
NDJSON = {"content-type": "application/x-ndjson"}
JSON = {"content-type": "application/json"}
COUNTRIES = ("NL", "DE", "FR")


def machine() -> str:
    """Where and when figures are measured, and of which commit, for whoever copies them into a document."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=8"]
    try:
        commit = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        commit = "unknown"
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    processor = next(names, platform.machine())
    load = os.getloadavg()[0]
    return f"{time.strftime('%Y-%m-%d')}, commit {commit}, {os.cpu_count()} cores of {processor}, load {load:.1f} before anything was started"


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
        f'"country": "{COUNTRIES[number % 3]}", "note": "left at the door of the neighbour, third floor"}}'
    )


def orders(start: int, count: int) -> bytes:
    return "\n".join(map(order, range(start, start + count))).encode()


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


def fresh(server: Server, rate: int, seconds: int, indexer: Server | None = None, warm_up_s: int = 0) -> str:
    """A producer at a steady rate, and beside it a client that produces one record and asks until it has it. Who makes records
    visible measures them, over the last minute: `indexer`, where that is another process than the door's. The client's first
    `warm_up_s` seconds count for nothing."""
    each, seen, late = rate // TICKS, [], []
    bodies = [orders(start, each) for start in range(0, each * TICKS, each)]
    ended, tick = threading.Event(), threading.Event()

    def produce() -> None:
        client, begun = Client(server), time.perf_counter()
        try:
            for number, body in zip(range((warm_up_s + seconds) * TICKS), itertools.cycle(bodies)):
                due = begun + number / TICKS
                tick.wait(max(0.0, due - time.perf_counter()))
                late.append(time.perf_counter() - due)
                client.produce("orders", body)
        finally:
            ended.set()

    def look() -> None:
        client, warm = Client(server), time.perf_counter() + warm_up_s
        for number in itertools.count(10_000_000):
            if ended.wait(0.05):
                return
            begun = time.perf_counter()
            at_least = client.produce("orders", orders(number, 1))["at_least"]
            acknowledged = time.perf_counter()
            client.sql("SELECT count(*) FROM live.orders", at_least=at_least)
            if begun >= warm:
                seen.append((acknowledged - begun, time.perf_counter() - begun))

    threads = [threading.Thread(target=work) for work in (produce, look)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    status = next(d for d in (indexer or server).ask("GET", "/v1/status")["datasets"] if d["dataset"] == "orders")["freshness"]
    in_ms = [[1000 * value for value in column] for column in zip(*seen)]
    return (
        f"  {rate:>6,} records/s: server p50 {status['p50_ms']} ms, p99 {status['p99_ms']} ms of {status['count']:,} records; "
        f"a client has its record p50 {percentile(in_ms[1], 0.5):.1f} ms, p99 {percentile(in_ms[1], 0.99):.1f} ms of "
        f"{len(seen)} (acknowledged p50 {percentile(in_ms[0], 0.5):.1f} ms, p99 {percentile(in_ms[0], 0.99):.1f} ms); "
        f"the producer was late by at most {1000 * max(late):.0f} ms"
    )


def in_turns(client: Client, dataset: str, questions: dict[str, str], rounds: int) -> float:
    """Asks each question of `merged` and of `batch` in turns, compares with both parts, prints; the mean ratio."""
    both = f"(SELECT * FROM batch.{dataset} UNION ALL SELECT * FROM live.{dataset})"
    ratios = []
    for name, query in questions.items():
        ours, derived = (client.sql(query.format(t=t))["rows"] for t in (f"merged.{dataset}", both))
        compare(name, ours, derived, "of both parts")
        times: dict[str, list[float]] = {"merged": [], "batch": []}
        for number in range(2 * rounds):
            table = ("merged", "batch")[(number + number // 2) % 2]
            begun = time.perf_counter()
            client.sql(query.format(t=f"{table}.{dataset}"))
            times[table].append(1000 * (time.perf_counter() - begun))
        least = {table: min(taken) for table, taken in times.items()}
        median = {table: statistics.median(taken) for table, taken in times.items()}
        ratios.append(median["merged"] / median["batch"])
        print(f"  {name:<20} merged {least['merged']:6.1f} / {median['merged']:6.1f} ms   batch {least['batch']:6.1f} / "
              f"{median['batch']:6.1f} ms (least / median)   ratio {least['merged'] / least['batch']:.2f} / {ratios[-1]:.2f}")
    mean = statistics.geometric_mean(ratios)
    print(f"  geometric mean of the medians' ratios {mean:.2f}")
    return mean


def compare(name: str, ours: list, theirs: list, whose: str) -> None:
    """Ends the benchmark unless rows are equal: as numbers to a relative 1e-9 (averages are doubles), else as text (engines have
    types of their own for what JSON has as such)."""

    def same(a: object, b: object) -> bool:
        try:
            return math.isclose(float(a), float(b), rel_tol=1e-9)
        except (TypeError, ValueError):
            return (a is None) == (b is None) and str(a) == str(b)

    fits = len(ours) == len(theirs) and all(len(a) == len(b) and all(map(same, a, b)) for a, b in zip(ours, theirs))
    if not fits:
        raise SystemExit(f"{name}: the answers differ\n  ours {ours[:5]}\n  {whose} {theirs[:5]}")
