"""What chaos runs put on a platform, and what they hold against it afterwards: producers, questions, recomputes, the audit.
Standard library only."""

from __future__ import annotations

import json
import random
import shutil
import threading
import time
from collections.abc import Iterable
from pathlib import Path

from server import Down, Refused, Server, Stopper

ROOT = Path(__file__).resolve().parents[2]
DATASET = "orders"
TABLE = f"merged.{DATASET}"
#: Refusals that a client has to expect around a restart; anything else is a defect.
EXPECTED = {
    "realtime_gap", "realtime_unavailable", "unavailable", "not_ready", "positions_not_reached", "too_many_queries",
}
#: Statuses with which a producer is sent away, to come again.
COME_AGAIN = (429, 503)
QUESTIONS = [
    f"SELECT count(*) FROM {TABLE}",
    f'SELECT count(*), sum("cents"), sum("_offset") FROM {TABLE}',
    f'SELECT "_source", "_partition", count(*), min("_offset"), max("_offset"), sum("_offset") FROM {TABLE} '
    'GROUP BY "_source", "_partition"',
    f'SELECT "month", count(*), sum("cents") FROM {TABLE} GROUP BY "month"',
]
#: Offsets of a partition whose rows are read by one statement: it has the time that any statement has.
OFFSETS_AT_ONCE = 50_000
#: A row's place: source, partition, offset.
Position = tuple[str, int, int]


def order(chance: random.Random, name: str) -> dict:
    year, month = chance.choice([(2026, 11), (2026, 10), (2019, 2), (2031, 1)])
    return {
        "id": name,
        "cents": chance.randint(-500, 100_000),
        "at": f"{year}-{month:02}-{chance.randint(1, 28):02}T{chance.randint(0, 23):02}:00:00Z",
        "country": chance.choice(["NL", "DE", None]),
    }


class Acknowledged:
    """What one producer was told."""

    def __init__(self) -> None:
        self.records: dict[Position, str] = {}
        #: The positions that an answer must cover to have all of them.
        self.ends: dict[str, int] = {}

    def take(self, at: Position, name: str) -> None:
        if at in self.records:
            raise AssertionError(f"position {at} was given twice")
        self.records[at] = name
        source, partition, offset = at
        of = f"{source}/{partition}"
        self.ends[of] = max(self.ends.get(of, 0), offset + 1)


def together(told: Iterable[Acknowledged]) -> tuple[dict[Position, str], list[str]]:
    """All that producers were told; the places that more than one of them was given."""
    records: dict[Position, str] = {}
    problems = []
    for one in told:
        theirs = one.records.copy()
        problems += [f"position {at} was given to two producers" for at in sorted(theirs.keys() & records.keys())]
        records |= theirs
    return records, problems


def ends_of(told: Iterable[Acknowledged]) -> dict[str, int]:
    """The positions that an answer must cover to have all that was acknowledged until now."""
    ends: dict[str, int] = {}
    for one in told:
        for partition, end in one.ends.copy().items():
            ends[partition] = max(ends.get(partition, 0), end)
    return ends


def united(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges of offsets without those that overlap or touch, as an answer names them."""
    found: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return found


class Producer:
    """Appends orders over HTTP with an idempotency key a request, and repeats a request until it is acknowledged."""

    def __init__(self, server: Server, seed: int, number: int) -> None:
        self.server, self.random, self.number = server, random.Random(seed + number), number
        self.acknowledged = Acknowledged()
        #: Ids of records of which nobody knows whether they are there.
        self.undecided: set[str] = set()
        self.sent = 0
        #: Held while a request is under way: who has it knows that none is.
        self.turn = threading.Lock()

    def run(self, stop: Stopper, rate: float) -> None:
        while not stop.done:
            count = self.random.randint(1, 200)
            with self.turn:
                self.request(stop, count)
            stop.event.wait(count / rate)

    def request(self, stop: Stopper, count: int) -> None:
        records = [order(self.random, self.next_name()) for _ in range(count)]
        key = f"{self.number}-{self.sent}"
        self.undecided = {record["id"] for record in records}
        while not stop.done:
            try:
                answer = self.server.produce(DATASET, records, key)
            except Down:
                time.sleep(0.02)
                continue
            except Refused as refused:
                if refused.status not in COME_AGAIN:
                    raise
                time.sleep(0.05)
                continue
            # its partitions carry the source's name, the positions do not
            source = next(iter(answer["at_least"][DATASET])).rsplit("/", 1)[0]
            for record, position in zip(records, answer["positions"], strict=True):
                self.acknowledged.take((source, position["partition"], position["offset"]), record["id"])
            self.undecided = set()
            return

    def next_name(self) -> str:
        self.sent += 1
        return f"{self.number}-{self.sent}"


class Asker:
    """Asks questions that the audit can check, and keeps the answers."""

    def __init__(self, server: Server, out: Path, seed: int, questions: list[str] | None = None,
                 expected: set[str] | None = None) -> None:
        self.server, self.out, self.random = server, out, random.Random(seed)
        self.questions, self.expected = questions or QUESTIONS, expected or EXPECTED
        self.answers, self.refused = 0, {}
        self.out.touch()

    def run(self, stop: Stopper, pause_s: float) -> None:
        while not stop.done:
            question, asked = self.random.choice(self.questions), time.monotonic()
            try:
                answer = self.server.sql(question)
            except Down:
                time.sleep(0.02)
                continue
            except Refused as refused:
                self.note(refused)
                time.sleep(0.02)
                continue
            answer["sql"] = question
            self.take(answer, asked)
            stop.event.wait(pause_s)

    def note(self, refused: Refused) -> None:
        if refused.code not in self.expected:
            raise refused
        self.refused[refused.code] = self.refused.get(refused.code, 0) + 1

    def take(self, answer: dict, asked: float) -> None:
        """An answer to what was asked then, by the monotonic clock."""
        with self.out.open("a") as out:
            out.write(json.dumps(answer) + "\n")
        self.answers += 1


def refusals(askers: list[Asker]) -> dict[str, int]:
    codes = sorted({code for asker in askers for code in asker.refused})
    return {code: sum(asker.refused.get(code, 0) for asker in askers) for code in codes}


class Recomputer:
    """Applies one of two definitions after the other, and recomputes beside the running process."""

    def __init__(self, server: Server, work: Path) -> None:
        self.server, self.done = server, 0
        self.original = (ROOT / "datasets" / DATASET).resolve()
        self.changed = work / "changed" / DATASET
        shutil.copytree(self.original, self.changed)
        transform = (self.changed / "transform.sql").read_text().replace("cents,", "cents + 1 AS cents,", 1)
        (self.changed / "transform.sql").write_text(transform)

    def run(self, stop: Stopper) -> None:
        while not stop.event.wait(2):
            self.once()

    def once(self) -> None:
        self.server.run("dataset", "apply", str(self.changed if self.done % 2 == 0 else self.original))
        ended = self.server.run("batch", "recompute", DATASET, "--json", check=False)
        if ended.returncode != 0:
            raise AssertionError(f"recompute failed: {ended.stdout} {ended.stderr}")
        self.done += 1


def rows_of(server: Server, ends: dict[str, int]) -> list[tuple[Position, str]]:
    """Position and id of every row, asked piece by piece once all of `ends` is covered."""
    more = {"at_least": {DATASET: ends}, "within_s": 200, "timeout_ms": 180_000}
    statement = f'SELECT "_source", "_partition", min("_offset"), max("_offset") FROM {TABLE} GROUP BY "_source", "_partition"'
    rows = []
    for source, partition, first, last in server.sql(statement, **more)["rows"]:
        for start in range(int(first), int(last) + 1, OFFSETS_AT_ONCE):
            statement = (f'SELECT "_offset", id FROM {TABLE} WHERE "_source" = \'{source}\' AND "_partition" = {partition} '
                         f'AND "_offset" >= {start} AND "_offset" < {start + OFFSETS_AT_ONCE}')
            found = server.sql(statement, **more)["rows"]
            rows += [((source, int(partition), int(offset)), name) for offset, name in found]
    return rows


def compare(acknowledged: dict[Position, str], rows: list[tuple[Position, str]]) -> tuple[dict[Position, str], list[str]]:
    """Acknowledged records that are not where their producer was told; what is there twice."""
    found: dict[Position, str] = {}
    doubled = []
    for at, name in rows:
        if at in found:
            doubled.append(f"row {at} is there twice")
        found[at] = name
    lost = {at: name for at, name in acknowledged.items() if found.get(at) != name}
    names = list(found.values())
    if len(names) != len(set(names)):
        doubled.append(f"{len(names) - len(set(names))} records are doubled")
    print(f"  {len(acknowledged)} acknowledged records, {len(found)} rows")
    return lost, doubled


def audit(server: Server, answers: Path, count: int) -> tuple[dict, list[str]]:
    """What the audit says of a file of `count` answers; what does not hold."""
    audited = server.run("audit", DATASET, "--answers", str(answers), "--json", check=False)
    try:
        report = json.loads(audited.stdout)
    except ValueError:
        return {}, [f"the audit failed: {audited.stdout} {audited.stderr}"]
    if report.get("wrong") or report.get("audited") != count:
        return report, [f"the audit of {count} answers says: {json.dumps(report)[:2000]}"]
    return report, []
