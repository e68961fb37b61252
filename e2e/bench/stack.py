"""Benchmark of the speed layer and of merged answers on Kafka, OpenSearch, S3 and PostgreSQL, beside what Kafka and OpenSearch
do by themselves.

    make bench-stack          or          .venv/bin/python e2e/bench/stack.py --tidemark BINARY --records 1000000

In one run, on servers that it starts: records consumed by librdkafka alone; the very documents that our indexer writes (they
are recorded on their way once), in the same portions, sent by `_bulk` alone, without refreshes and with those that ours make; our
whole speed layer, which reads a topic that is full already, from its first record to the last visible one; the same two with
OpenSearch on a half of the processors and all else on the other; the archiver alone.
These take turns on a JVM that has had 300,000 documents before, and medians are compared. Then how fresh records are at a steady
500 a second; a live `GROUP BY`; four business questions with 1 % of the rows live, merged against the batch part alone; and
memory of each process. It prints figures beside their goals and asserts nothing but equal answers: machines differ.
"""

from __future__ import annotations

import argparse
import http.client
import os
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# first, for it says where the others are
from common import BODY_RECORDS, ROOT, Client, fresh, highest, in_turns, machine, order, orders, wait_visible  # isort: skip
import bare
from apart import apart, halves
from ours import DOOR, ROLES, Ours, dataset_status, until
from queries import ORDERS
from record import Recorder
from servers import ALL, Servers, resident_mb

DATASET = "orders"
PARTITIONS = 4
WARM_DOCUMENTS = 300_000
#: Before freshness counts: a new view has no index yet.
WARM_UP_S = 15
#: A topic for what takes a second for 300,000 records, and a name for how it is consumed.
MANY, CONSUME_MANY = "many", "bare consume, many"
BARE, WHOLE_LAYER = "bare _bulk", "whole speed layer"
BARE_APART, WHOLE_APART = "bare _bulk, apart", "whole speed layer, apart"
#: Different records in it.
DIFFERENT = 100_000
INDEXED_WITHIN_S = 1_800
#: How often the status is asked for: it costs processor time of ours and of the servers, so rarely until the end is near.
LOOK_S, LAST_LOOKS_S, NEAR_S = 1.0, 0.2, 3.0
#: Half of what it is by default: each process comes upon the dataset within so long, before or after it counts as open, and a look
#: costs processor time of ours and of the store.
DEFINITIONS_INTERVAL = "500ms"
#: The memory view's limit elsewhere; here, of rows that were read and are kept.
CACHE_BYTES = "1GiB"


class Stack:
    """The servers, and platforms on them that share nothing but the topic."""

    def __init__(self, binary: Path, work: Path) -> None:
        self.binary, self.work, self.count = binary, work, 0
        self.servers = Servers(work / "servers")
        self.running: Ours | None = None

    @property
    def brokers(self) -> str:
        return self.servers.told["TIDEMARK_TEST_KAFKA"]

    def platform(self, *flags: str, search_port: int | None = None, roles: tuple[str, ...] = ROLES, topic: str = DATASET) -> Ours:
        """A new one, which knows of no dataset yet."""
        self.count += 1
        name = f"bench-{self.count}"
        env = self.servers.environment(name, through={"opensearch": search_port} if search_port else None)
        common = ["--batch-interval", "none", "--live-bytes-max", CACHE_BYTES, "--definitions-interval", DEFINITIONS_INTERVAL]
        ours = Ours(self.binary, self.work / name, [*common, *flags], env, roles)
        self.definition(name, topic)
        self.running = ours
        return ours

    def definition(self, name: str, topic: str) -> None:
        folder = self.work / name / "definition" / DATASET
        shutil.copytree(ROOT / "datasets" / DATASET, folder)
        text = (folder / "dataset.toml").read_text()
        (folder / "dataset.toml").write_text(text.replace(f'topic = "{DATASET}"', f'topic = "{topic}"'))

    def apply(self, ours: Ours) -> None:
        ours.door.run("dataset", "apply", str(ours.door.data.parent / "definition" / DATASET))

    def end(self, ours: Ours) -> None:
        ours.stop()
        self.running = None
        prefix = ours.door.env["TIDEMARK_LIVE_URL"].rsplit("/", 1)[1]
        host, port = self.servers.address("opensearch")
        remove_indices(host, port, f"{prefix}__*")

    def clean_up(self) -> None:
        if self.running is not None:
            self.running.clean_up()
        self.servers.down()


def remove_indices(host: str, port: int, pattern: str) -> None:
    connection = http.client.HTTPConnection(host, port, timeout=120)
    connection.request("DELETE", f"/{pattern}")
    answer = connection.getresponse()
    if answer.status >= 300:
        raise SystemExit(f"indices {pattern} can't be removed: {answer.status} {answer.read()[:300]!r}")


def process_s(process: int) -> float:
    """Processor time of a process until now."""
    fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def processor_s(ours: Ours) -> dict[str, float]:
    """Processor time of each of our processes until now."""
    return {name: process_s(server.process.pid) for name, server in ours.all.items()}


def servers_s(servers: Servers) -> dict[str, float]:
    """Processor time of each server until now."""
    return {name: sum(map(process_s, servers.processes(name))) for name in ALL}


def progress(ours: Ours) -> tuple[int, int] | None:
    """Records that are visible, and archived; nothing before the stream is open."""
    status = dataset_status(ours.door, DATASET)
    if status is None:
        return None
    partitions = status["partitions"].values()
    return sum(p["visible"] or 0 for p in partitions), sum(p["archived"] or 0 for p in partitions)


def pause_s(done: int, count: int, seconds: float) -> float:
    """How long until the next look at what has done so many of `count` records in so much time."""
    left = seconds * (count - done) / done if done else 0.0
    return LOOK_S if left > NEAR_S else LAST_LOOKS_S


def from_the_start(stack: Stack, ours: Ours, count: int, which: int) -> tuple[float, dict[str, float]]:
    """Seconds from the opening of the stream until all records are visible (`which` 0) or archived (1), and each process's
    processor seconds."""
    ours.start()
    before = processor_s(ours)
    stack.apply(ours)
    until("an open stream", 60, lambda: progress(ours), pause_s=0.01)
    begun = time.perf_counter()
    while (done := (progress(ours) or (0, 0))[which]) < count:
        seconds = time.perf_counter() - begun
        if seconds > INDEXED_WITHIN_S:
            raise TimeoutError(f"{done} of {count} records within {INDEXED_WITHIN_S} s")
        time.sleep(pause_s(done, count, seconds))
    seconds = time.perf_counter() - begun
    return seconds, {name: used - before.get(name, 0.0) for name, used in processor_s(ours).items()}


class Rounds:
    """What takes turns."""

    def __init__(self, stack: Stack, records: int, archived: int) -> None:
        self.stack, self.records, self.archived = stack, records, archived
        self.seconds: dict[str, list[float]] = {}
        self.processor: list[dict[str, float]] = []
        #: What servers took of it, by what was done.
        self.servers: dict[str, list[dict[str, float]]] = {}
        self.memory: dict[str, float] = {}
        self.bulk: bare.Bulk | None = None

    def warm_up(self) -> None:
        """Our indexer writes through the recorder; what is missing of a warm JVM is written again."""
        host, port = self.stack.servers.address("opensearch")
        recorder = Recorder(host, port)
        ours = self.stack.platform(search_port=recorder.port)
        from_the_start(self.stack, ours, self.records, 0)
        self.stack.end(ours)
        recorder.stop()
        recorded = recorder.recorded
        self.bulk = bare.Bulk(host, port, recorded)
        size = sum(len(body) for _, body in recorded.bulks)
        print(f"  {recorded.documents:,} documents recorded, {size / recorded.documents:.0f} bytes each, in {len(recorded.bulks)} "
              f"portions of {recorded.documents / len(recorded.bulks):,.0f}; {len(recorded.indices)} indices, "
              f"{len(recorded.refreshed)} refreshes")
        written = recorded.documents
        while written < WARM_DOCUMENTS:
            self.bulk.run(False)
            written += recorded.documents

    def take(self, what: str, seconds: float) -> None:
        self.seconds.setdefault(what, []).append(seconds)

    def take_with_servers(self, what: str, work: Callable[[], Any]) -> Any:
        """Does the work, and takes note of what the servers took for it; what it returns."""
        before = servers_s(self.stack.servers)
        done = work()
        after = servers_s(self.stack.servers)
        self.servers.setdefault(what, []).append({name: after[name] - before[name] for name in ALL})
        return done

    def one(self) -> None:
        stack, records = self.stack, self.records
        self.take("bare consume", bare.consume(stack.brokers, DATASET, PARTITIONS, records))
        self.take(CONSUME_MANY, bare.consume(stack.brokers, MANY, PARTITIONS, self.archived))
        self.take(BARE, self.take_with_servers(BARE, lambda: self.bulk.run(False)))
        self.take("bare _bulk, refreshed", self.bulk.run(True))
        pushdown = ("on", "off")[len(self.processor) % 2]
        ours = stack.platform("--live-aggregate-pushdown", pushdown)
        seconds, processor = self.take_with_servers(WHOLE_LAYER, lambda: from_the_start(stack, ours, records, 0))
        self.take(WHOLE_LAYER, seconds)
        self.processor.append(processor)
        self.memory = {name: resident_mb(server.process.pid) for name, server in ours.all.items()}
        self.grouped(ours, pushdown)
        stack.end(ours)
        if (parts := halves()) is not None:
            with apart(stack.servers, *parts):
                self.one_apart()
        ours = stack.platform("--segment-age-max", "500ms", roles=("archiver", DOOR), topic=MANY)
        self.take("archiver alone", from_the_start(stack, ours, self.archived, 1)[0])
        stack.end(ours)

    def one_apart(self) -> None:
        self.take(BARE_APART, self.take_with_servers(BARE_APART, lambda: self.bulk.run(False)))
        ours = self.stack.platform()
        seconds, _ = self.take_with_servers(WHOLE_APART, lambda: from_the_start(self.stack, ours, self.records, 0))
        self.take(WHOLE_APART, seconds)
        self.stack.end(ours)

    def grouped(self, ours: Ours, pushdown: str) -> None:
        """The same question twice: where rows are read, they are kept."""
        client = Client(ours.door)
        for what in (f"live GROUP BY, {pushdown}, first", f"live GROUP BY, {pushdown}, again"):
            begun = time.perf_counter()
            rows = client.sql("SELECT country, count(*), sum(cents), min(at), max(at) FROM live.orders GROUP BY 1 ORDER BY 1")["rows"]
            self.take(what, time.perf_counter() - begun)
            if sum(int(row[1]) for row in rows) != self.records:
                raise SystemExit(f"{self.records} records are live, and the groups are {rows}")

    def print(self) -> None:
        median = {what: statistics.median(taken) for what, taken in self.seconds.items()}
        many = (CONSUME_MANY, "archiver alone")
        rate = {what: (self.archived if what in many else self.records) / seconds for what, seconds in median.items()}
        slower = min("bare consume", BARE, key=rate.get)
        print(f"\nthroughput, {self.records:,} records, medians of {len(self.seconds[slower])} rounds in turns")
        pairs = [BARE_APART, WHOLE_APART] if BARE_APART in rate else []
        for what in ("bare consume", BARE, "bare _bulk, refreshed", WHOLE_LAYER, *pairs, *many):
            spread = f"{min(self.seconds[what]):.1f} to {max(self.seconds[what]):.1f} s"
            print(f"  {what:<24} {rate[what]:>10,.0f} records/s   {median[what]:6.1f} s ({spread})")
        print(f"  whole speed layer / slower of the bares ({slower}): {rate[WHOLE_LAYER] / rate[slower]:.2f} (goal 0.90); "
              f"/ bare _bulk, refreshed: {rate[WHOLE_LAYER] / rate['bare _bulk, refreshed']:.2f}")
        if pairs:
            print(f"  whole speed layer / bare _bulk, OpenSearch on a half of the processors and all else on the other: "
                  f"{rate[WHOLE_APART] / rate[BARE_APART]:.2f}")
        print(f"  archiver alone / bare consume of as many: {rate['archiver alone'] / rate[CONSUME_MANY]:.2f} (goal 0.80), {self.archived:,} records each")
        used = {name: statistics.median(taken[name] for taken in self.processor) / self.records * 1e6 for name in self.processor[0]}
        parts = ", ".join(f"{name} {seconds:.1f}" for name, seconds in used.items())
        print(f"  processor time of ours: {sum(used.values()):.1f} s a million records ({parts})")
        for what, taken in self.servers.items():
            used = {name: statistics.median(one[name] for one in taken) / self.records * 1e6 for name in ALL}
            parts = ", ".join(f"{name} {seconds:.1f}" for name, seconds in used.items())
            print(f"  of the servers, {what}: {sum(used.values()):.1f} s a million records ({parts})")
        print(f"\nlive GROUP BY over {self.records:,} rows")
        for pushdown, says in (("on", "added up in the cluster"), ("off", "rows are read, and kept for the second time")):
            first, again = (median.get(f"live GROUP BY, {pushdown}, {time}") for time in ("first", "again"))
            if first is not None:
                print(f"  pushdown {pushdown:<4} first {1000 * first:6,.0f} ms, again {1000 * again:6,.0f} ms ({says})")
        print("\nmemory after that (resident)")
        for name, size in self.memory.items():
            print(f"  tidemark {name:<12} {size:7.0f} MB")
        for name in ALL:
            print(f"  {name:<21} {self.stack.servers.resident_mb(name):7.0f} MB")


def freshness(stack: Stack, rate: int, seconds: int) -> None:
    ours = stack.platform(topic="fresh")
    stack.apply(ours)
    ours.start()
    until("an open stream", 60, lambda: dataset_status(ours.door, DATASET))
    print("\nfreshness, from the producer's append to visible (goal p99 < 500 ms)")
    print(fresh(ours.door, rate, seconds, ours.all["indexer"], WARM_UP_S))
    stack.end(ours)


def merged(stack: Stack, curated: int, rounds: int) -> None:
    """Curated rows come as a file, 1 % as many by the stream."""
    ours = stack.platform(topic="merged")
    stack.apply(ours)
    file = stack.work / "orders.ndjson"
    with file.open("wb") as out:
        for start in range(0, curated, BODY_RECORDS):
            out.write(orders(start, min(BODY_RECORDS, curated - start)) + b"\n")
    ours.door.run("ingest", DATASET, str(file))
    file.unlink()
    ours.start()
    until("an open stream", 60, lambda: dataset_status(ours.door, DATASET))
    client, live = Client(ours.door), max(1, curated // 100)
    answers = [client.produce(DATASET, orders(curated + start, min(BODY_RECORDS, live - start))) for start in range(0, live, BODY_RECORDS)]
    wait_visible(ours.door, DATASET, highest(answers, DATASET))
    counts = {layer: int(client.sql(f"SELECT count(*) FROM {layer}.orders")["rows"][0][0]) for layer in ("batch", "live", "merged")}
    if counts != {"batch": curated, "live": live, "merged": curated + live}:
        raise SystemExit(f"the counts do not fit together: {counts}")
    print(f"\nfour business questions over HTTP, {curated:,} rows curated and {live:,} live, in turns, {rounds} rounds (goal 1.5)")
    in_turns(client, DATASET, ORDERS, rounds)
    stack.end(ours)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug"
    parser.add_argument("--tidemark", type=Path, default=target / "tidemark", help="an optimised build")
    parser.add_argument("--records", type=int, default=1_000_000, help="records of the throughput")
    parser.add_argument("--archived", type=int, default=2_000_000, help="records of the archiver alone")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of the throughput")
    parser.add_argument("--rate", type=int, default=500, help="records a second of the freshness")
    parser.add_argument("--seconds", type=int, default=60, help="seconds of it")
    parser.add_argument("--curated", type=int, default=3_000_000, help="curated rows of the business questions")
    parser.add_argument("--question-rounds", type=int, default=25, help="rounds of the business questions")
    args = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="tidemark-bench-"))
    stack = Stack(args.tidemark.resolve(), work)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        print(machine(), flush=True)
        stack.servers.up(*ALL)
        records = ((f"{number}", order(number)) for number in range(args.records))
        size = bare.preload(stack.brokers, DATASET, PARTITIONS, records, args.records)
        print(f"  {args.records:,} records of {size / args.records:.0f} bytes in a topic of {PARTITIONS} partitions", flush=True)
        different = [order(number) for number in range(DIFFERENT)]
        many = ((f"{number}", different[number % DIFFERENT]) for number in range(args.archived))
        bare.preload(stack.brokers, MANY, PARTITIONS, many, args.archived)
        rounds = Rounds(stack, args.records, args.archived)
        rounds.warm_up()
        for number in range(args.rounds):
            rounds.one()
            print(f"  round {number + 1} of {args.rounds}, load {os.getloadavg()[0]:.1f}", flush=True)
        rounds.print()
        freshness(stack, args.rate, args.seconds)
        merged(stack, args.curated, args.question_rounds)
        print(f"\nload {os.getloadavg()[0]:.1f} at the end")
    except BaseException:
        print(f"kept {work}", file=sys.stderr)
        raise
    finally:
        stack.clean_up()
    shutil.rmtree(work)
    return 0


if __name__ == "__main__":
    sys.exit(main())
