"""Kills a running `tidemark up` at random moments while it takes records in, runs the batch layer, recomputes and answers.

    make chaos          or          python3 e2e/chaos/stream.py --kills 200 --answers 20000

Afterwards: every acknowledged record is in the answer, once, under the position that its producer was told; every
answer that was given meanwhile is what `tidemark audit` derives from the master dataset; and what the process refused to
answer, it refused by name. Ends with exit code 1 on the first of these that does not hold.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path

from server import Down, Refused, Server, Stopper, tidemark

ROOT = Path(__file__).resolve().parents[2]
DATASET = "orders"
TABLE = f"merged.{DATASET}"
#: Refusals that a client has to expect around a restart; anything else is a defect.
EXPECTED = {
    "realtime_gap", "realtime_unavailable", "unavailable", "not_ready", "positions_not_reached", "too_many_queries",
}
QUESTIONS = [
    f"SELECT count(*) FROM {TABLE}",
    f'SELECT count(*), sum("cents"), sum("_offset") FROM {TABLE}',
    f'SELECT "_source", "_partition", count(*), min("_offset"), max("_offset"), sum("_offset") FROM {TABLE} '
    'GROUP BY "_source", "_partition"',
    f'SELECT "month", count(*), sum("cents") FROM {TABLE} GROUP BY "month"',
]


class Producer:
    """Appends orders with an idempotency key a request, and repeats a request until it is acknowledged."""

    def __init__(self, server: Server, seed: int, number: int) -> None:
        self.server, self.random, self.number = server, random.Random(seed + number), number
        self.acknowledged: dict[tuple[int, int], str] = {}
        self.sent = 0

    def run(self, stop: Stopper, rate: float) -> None:
        while not stop.done:
            count = self.random.randint(1, 200)
            records = [self.order() for _ in range(count)]
            key = f"{self.number}-{self.sent}"
            while not stop.done:
                try:
                    answer = self.server.produce(DATASET, records, key)
                except Down:
                    time.sleep(0.02)
                    continue
                except Refused as refused:
                    if refused.status not in (429, 503):
                        raise
                    time.sleep(0.05)
                    continue
                for record, position in zip(records, answer["positions"], strict=True):
                    at = (position["partition"], position["offset"])
                    if at in self.acknowledged:
                        raise AssertionError(f"position {at} was given twice")
                    self.acknowledged[at] = record["id"]
                break
            time.sleep(count / rate)

    def order(self) -> dict:
        self.sent += 1
        year, month = self.random.choice([(2026, 11), (2026, 10), (2019, 2), (2031, 1)])
        return {
            "id": f"{self.number}-{self.sent}",
            "cents": self.random.randint(-500, 100_000),
            "at": f"{year}-{month:02}-{self.random.randint(1, 28):02}T{self.random.randint(0, 23):02}:00:00Z",
            "country": self.random.choice(["NL", "DE", None]),
        }


class Asker:
    """Asks the audit's questions and keeps the answers."""

    def __init__(self, server: Server, out: Path, seed: int) -> None:
        self.server, self.out, self.random = server, out, random.Random(seed)
        self.answers, self.refused, self.lock = 0, {}, threading.Lock()

    def run(self, stop: Stopper, pause_s: float) -> None:
        with self.out.open("a") as out:
            while not stop.done:
                question = self.random.choice(QUESTIONS)
                try:
                    answer = self.server.sql(question)
                except Down:
                    time.sleep(0.02)
                    continue
                except Refused as refused:
                    if refused.code not in EXPECTED:
                        raise
                    self.refused[refused.code] = self.refused.get(refused.code, 0) + 1
                    time.sleep(0.02)
                    continue
                answer["sql"] = question
                out.write(json.dumps(answer) + "\n")
                self.answers += 1
                time.sleep(pause_s)


def recompute(server: Server, stop: Stopper, work: Path, counts: dict) -> None:
    """Applies one of two definitions after the other, and recomputes beside the running process."""
    original = (ROOT / "datasets" / DATASET).resolve()
    changed = work / "changed" / DATASET
    shutil.copytree(original, changed)
    transform = (changed / "transform.sql").read_text().replace("cents,", "cents + 1 AS cents,", 1)
    (changed / "transform.sql").write_text(transform)
    for turn in range(1_000_000):
        if stop.event.wait(2):
            return
        server.run("dataset", "apply", str(changed if turn % 2 == 0 else original))
        ended = server.run("batch", "recompute", DATASET, "--json", check=False)
        if ended.returncode != 0:
            raise AssertionError(f"recompute failed: {ended.stdout} {ended.stderr}")
        counts["recomputes"] = counts.get("recomputes", 0) + 1


def verify(server: Server, producers: list[Producer], work: Path) -> list[str]:
    """What does not hold of the final state."""
    acknowledged = {at: key for producer in producers for at, key in producer.acknowledged.items()}
    ends: dict[str, int] = {}
    for partition, offset in acknowledged:
        name = f"{DATASET}/{partition}"
        ends[name] = max(ends.get(name, 0), offset + 1)
    rows = server.sql(f"SELECT _partition, _offset, id FROM {TABLE}", at_least={DATASET: ends}, timeout_ms=120_000)["rows"]
    found: dict[tuple[int, int], str] = {}
    problems = []
    for partition, offset, key in rows:
        at = (int(partition), int(offset))
        if at in found:
            problems.append(f"row {at} is there twice")
        found[at] = key
    problems += [f"acknowledged record {key} at {at} is {found.get(at)}" for at, key in acknowledged.items() if found.get(at) != key]
    ids = list(found.values())
    if len(ids) != len(set(ids)):
        problems.append(f"{len(ids) - len(set(ids))} records are doubled")
    print(f"  {len(acknowledged)} acknowledged records, {len(found)} rows")
    return problems


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tidemark", help="the binary [default: the one that cargo builds]")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=0, help="go on for so long, whatever the number of kills")
    parser.add_argument("--answers", type=int, default=20_000, help="go on until so many answers were given")
    parser.add_argument("--seed", type=int, default=None)
    arguments = parser.parse_args()
    seed = arguments.seed if arguments.seed is not None else random.SystemRandom().randrange(1 << 31)
    print(f"chaos: seed {seed}, {arguments.kills} kills, {arguments.answers} answers")
    chance = random.Random(seed)
    work = Path(tempfile.mkdtemp(prefix="tidemark-chaos-"))
    flags = ["--batch-interval", "1s", "--segment-age-max", "300ms"]
    server = Server(tidemark(arguments.tidemark, ROOT), work / "data", flags)
    server.run("dataset", "apply", str(ROOT / "datasets" / DATASET))
    server.start()
    stop, counts = Stopper(), {}
    producers = [Producer(server, seed, number) for number in range(2)]
    askers = [Asker(server, work / f"answers-{number}.ndjson", seed + number) for number in range(2)]
    threads = [stop.thread(producer.run, stop, 1_000.0) for producer in producers]
    threads += [stop.thread(asker.run, stop, 0.005) for asker in askers]
    threads.append(stop.thread(recompute, server, stop, work, counts))
    begun, kills, restarts_s = time.monotonic(), 0, []
    answers = lambda: sum(asker.answers for asker in askers)  # noqa: E731
    while not stop.done:
        enough = kills >= arguments.kills and answers() >= arguments.answers
        if enough and time.monotonic() - begun >= arguments.minutes * 60:
            break
        if stop.event.wait(chance.uniform(0.2, 2.5)):
            break
        if kills < arguments.kills or arguments.minutes:
            server.kill()
            kills += 1
            again = time.monotonic()
            server.start()
            restarts_s.append(time.monotonic() - again)
            if kills % 20 == 0:
                print(f"  {kills} kills, {answers()} answers, {counts.get('recomputes', 0)} recomputes", flush=True)
    stop.event.set()
    for thread in threads:
        thread.join(timeout=120)
    if stop.failure is not None:
        print(f"FAILED (seed {seed}, kept {work}): {stop.failure!r}\n{server.log.read_text()[-3000:]}")
        return 1
    problems = verify(server, producers, work)
    merged = work / "answers.ndjson"
    merged.write_text("".join(asker.out.read_text() for asker in askers))
    audited = server.run("audit", DATASET, "--answers", str(merged), "--json", check=False)
    try:
        report = json.loads(audited.stdout)
    except ValueError:
        report = {}
        problems.append(f"the audit failed: {audited.stdout} {audited.stderr}")
    if report.get("wrong") or report.get("audited") != answers():
        problems.append(f"the audit says: {json.dumps(report)[:2000]}")
    if server.stop() not in (0, 130):
        problems.append(f"`up` ended with {server.process.returncode}")
    refused = {code: sum(asker.refused.get(code, 0) for asker in askers) for asker in askers for code in asker.refused}
    print(f"  {kills} kills, slowest restart {max(restarts_s, default=0):.1f} s, {counts.get('recomputes', 0)} recomputes")
    print(f"  {report.get('audited')} answers audited, {report.get('wrong')} wrong; refused by name: {refused or 'none'}")
    if problems:
        print(f"FAILED (seed {seed}, kept {work}):", *problems[:20], sep="\n  ")
        return 1
    shutil.rmtree(work)
    print("chaos: nothing lost, nothing doubled, nothing wrong")
    return 0


if __name__ == "__main__":
    sys.exit(main())
