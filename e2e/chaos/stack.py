"""Breaks the parts of a platform on Kafka, OpenSearch, S3 and PostgreSQL while it takes records in, curates and answers.

    make chaos-stack          or          .venv/bin/python e2e/chaos/stack.py --faults 300 --minutes 60

Each kind of fault in turn, in an order that the seed decides: servers killed, stopped and restarted, connections that are
cut, reset, refused and slow, a full disk, a read-only and a rejecting cluster, indices deleted, a topic made again, given a
partition, or shortened by retention past what was archived, our own processes killed, and stopped until everybody takes them
for dead. After each, it measures how long it takes until a merged answer covers all that was acknowledged by then, and until
the curated table does.

At the end: every record that a producer was told of is in the answer, once, at the position that it was told; what a fault took
from the log is named as lost; every answer that was given meanwhile is what `tidemark audit` derives from the master dataset;
no position went back but where an index was lost. Ends with exit code 1 if any of that does not hold. SIGINT or SIGTERM ends the
run early, with the verdict on what there was; a second one ends it at once.
"""

from __future__ import annotations

import argparse
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from direct import ABORTED
from faults import NOTICED_WITHIN_S, Fault, all_of
from field import RECOVERY_WITHIN_S, Field
from load import DATASET, ROOT, TABLE, Recomputer, audit, compare, rows_of, together, united
from ours import until
from server import tidemark

#: Faults between two audits, and between two recomputes.
AUDIT_EVERY = 25
RECOMPUTE_EVERY = 12


class Audits:
    """Audits the answers that came since the last time: what is wrong is known soon."""

    def __init__(self, field: Field) -> None:
        self.field, self.audited, self.wrong, self.read = field, 0, 0, {}

    def run(self) -> None:
        field = self.field
        file, count = field.work / "answers.ndjson", 0
        with file.open("w") as out:
            for asker in [*field.watchers, field.rare]:
                with asker.out.open("rb") as answers:
                    answers.seek(self.read.get(asker, 0))
                    text = answers.read()
                # the last line may not be whole yet
                text = text[: text.rfind(b"\n") + 1]
                self.read[asker] = self.read.get(asker, 0) + len(text)
                out.write(text.decode())
                count += text.count(b"\n")
        report, problems = audit(field.ours.door, file, count)
        self.audited += report.get("audited", 0)
        self.wrong += report.get("wrong", 0)
        field.problems += problems
        if problems:
            file.rename(file.with_suffix(f".wrong-{len(field.problems)}"))


class Run:
    """Fault after fault."""

    def __init__(self, field: Field, audits: Audits, recomputer: Recomputer) -> None:
        self.field, self.audits, self.recomputer = field, audits, recomputer
        self.times: dict[str, list[tuple[float, float]]] = {}
        self.count = 0

    def fault(self, fault: Fault) -> bool:
        """False if the platform does not come back from it."""
        field, begun = self.field, time.monotonic()
        field.fault, marks = fault.kind, field.log_marks()
        field.direct.calm.clear()
        self.count += 1
        if fault.steps_back:
            field.steps_back.begin()
        try:
            since = fault.inject(field)
            times = field.recovered(since)
        except (Exception, SystemExit) as error:  # noqa: BLE001
            print(f"  {self.count:>3} {fault.kind:<42} FAILED: {error!r}\n        {field.standing()}", flush=True)
            field.problems.append(f"{fault.kind} ({self.count}): {error!r}")
            if not self.comes_back():
                return False
        else:
            self.times.setdefault(fault.kind, []).append(times)
            print(f"  {self.count:>3} {fault.kind:<42} lasted {since - begun:5.1f} s, answers after {times[0]:5.1f} s, "
                  f"curated after {times[1]:5.1f} s", flush=True)
        if fault.alarms:
            self.is_told(fault, marks)
        field.steps_back.end(time.monotonic())
        if not self.all_run(fault):
            return False
        field.direct.calm.set()
        self.tidy()
        return True

    def all_run(self, fault: Fault) -> bool:
        """Starts whatever has ended by itself, which nothing of ours may; false if it can't be."""
        field = self.field
        for name, code in field.ours.ended().items():
            field.problems.append(f"{fault.kind} ({self.count}): {name} ended by itself with {code}")
            try:
                field.ours.start(name)
            except (Exception, SystemExit) as error:  # noqa: BLE001
                field.problems.append(f"{fault.kind} ({self.count}): {name} does not start again: {error!r}")
                return False
        return True

    def is_told(self, fault: Fault, marks: dict[str, int]) -> None:
        """Answers may be as before without what was lost; then it is found out by a look that comes every so often."""
        try:
            until("a word of it", NOTICED_WITHIN_S, partial(self.field.logs_say_since, marks), pause_s=0.5)
        except TimeoutError:
            self.field.problems.append(f"{fault.kind} ({self.count}): nothing was said of it")

    def comes_back(self) -> bool:
        field = self.field
        if field.stop.failure is not None:
            return False
        try:
            field.heal()
            field.recovered(time.monotonic())
        except (Exception, SystemExit) as error:  # noqa: BLE001
            print(f"      and nothing helps: {error}", flush=True)
            return False
        return True

    def broken_off(self) -> None:
        """Makes good what the fault that was under way did: the verdict is on what there was until then."""
        print(f"  told to end, after {self.count} faults; once more, and there is no verdict", flush=True)
        self.comes_back()
        self.field.steps_back.end(time.monotonic())
        self.field.direct.calm.set()

    def tidy(self) -> None:
        """What belongs between faults."""
        if self.count % RECOMPUTE_EVERY == 0:
            self.between("a recompute", self.recomputer.once)
        if self.count % AUDIT_EVERY == 0:
            self.between("an audit", self.audits.run)
            print(f"      {self.audits.audited} answers audited, {self.audits.wrong} wrong", flush=True)

    def between(self, what: str, work: Callable[[], None]) -> None:
        """What fails of it is one more problem, and no end of the run before its verdict."""
        self.field.fault = what
        try:
            work()
        except (Exception, SystemExit) as error:  # noqa: BLE001
            print(f"      {what} FAILED: {error!r}", flush=True)
            self.field.problems.append(f"{what} ({self.count}): {error!r}")


def verify(field: Field) -> dict[str, int]:
    """What became of the records; problems go where all of them are."""
    (acknowledged, twice), ends = together(field.acknowledged()), field.ends()
    field.answered(TABLE, ends, time.monotonic() + RECOVERY_WITHIN_S)
    lost, doubled = compare(acknowledged, rows := rows_of(field.ours.door, ends))
    # as an answer names them: those of two faults may be one range
    taken = {partition: united(ranges) for partition, ranges in field.taken.items()}
    told = field.ours.door.sql(f"SELECT count(*) FROM {TABLE}", at_least={DATASET: ends})["as_of"][DATASET].get("lost", {})
    within = lambda ranges, offset: any(start <= offset < end for start, end in ranges)  # noqa: E731
    gone, unreported, missing = 0, 0, []
    for (source, partition, offset), record in lost.items():
        name = f"{source}/{partition}"
        if not within(taken.get(name, []), offset):
            missing.append(f"acknowledged record {record} at {name}/{offset} is not there")
        elif within(told.get(name, []), offset):
            gone += 1
        else:
            unreported += 1
            missing.append(f"record {record} at {name}/{offset} left the log, and no answer says so")
    for name, ranges in told.items():
        for start, end in ranges:
            if not any(first <= start and end <= last for first, last in taken.get(name, [])):
                missing.append(f"offsets {start} to {end} of {name} are called lost, and nothing took them")
    known = set(acknowledged.values()).union(*(producer.undecided for producer in [*field.producers, field.direct]))
    strange = [record for _, record in rows if record not in known]
    aborted = [record for record in strange if record.startswith(ABORTED)]
    field.problems += twice + missing + doubled
    if strange:
        field.problems.append(f"{len(strange)} records are there that nobody has produced, {len(aborted)} of them aborted: {strange[:3]}")
    return {"acknowledged": len(acknowledged), "lost": len(lost) - gone - unreported, "doubled": len(doubled),
            "taken from the log, and named as lost": gone, "unreported holes": unreported, "aborted": field.direct.aborts * 10}


def table(times: dict[str, list[tuple[float, float]]]) -> None:
    print(f"\n  {'fault':<42} {'times':>5}   {'answers p50':>11} {'max':>7}   {'curated p50':>11} {'max':>7}")
    for kind, taken in sorted(times.items()):
        answers, curated = zip(*taken)
        print(f"  {kind:<42} {len(taken):>5}   {statistics.median(answers):>9.1f} s {max(answers):>5.1f} s   "
              f"{statistics.median(curated):>9.1f} s {max(curated):>5.1f} s")


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tidemark", help="the binary [default: the one that cargo builds]")
    parser.add_argument("--faults", type=int, default=300, help="go on until there were so many")
    parser.add_argument("--minutes", type=float, default=0, help="and for so long")
    parser.add_argument("--answers", type=int, default=0, help="and until so many answers were given")
    parser.add_argument("--once", action="store_true", help="each kind once, and nothing more")
    parser.add_argument("--kinds", help="only those whose name this regular expression finds")
    parser.add_argument("--one-process", action="store_true", help="all roles in one process, not one role a process")
    parser.add_argument("--askers", type=int, default=4, help="clients that ask questions all the time")
    parser.add_argument("--rate", type=float, default=150, help="records a second of each of three producers")
    parser.add_argument("--seed", type=int, default=None)
    return parser.parse_args()


def play(field: Field, run: Run, arguments: argparse.Namespace, chance: random.Random) -> None:
    kinds = [fault for fault in all_of(field) if re.search(arguments.kinds or "", fault.kind)]
    if not kinds:
        raise SystemExit(f"no fault is called `{arguments.kinds}`")
    begun = time.monotonic()
    enough = lambda: (run.count >= arguments.faults and field.answers() >= arguments.answers  # noqa: E731
                      and time.monotonic() - begun >= arguments.minutes * 60)
    while not field.stop.done:
        for fault in chance.sample(kinds, len(kinds)):
            if field.stop.done or (enough() and not arguments.once):
                return
            if not run.fault(fault):
                return
            field.stop.event.wait(chance.uniform(0.5, 2))
        if arguments.once:
            return


def finish(field: Field, run: Run, audits: Audits) -> bool:
    """True if all holds."""
    field.fault = "the end"
    field.stop.event.set()
    for thread in field.threads:
        thread.join(timeout=120)
    if stuck := sum(thread.is_alive() for thread in field.threads):
        field.problems.append(f"{stuck} of those that produce and ask do not end")
    if field.stop.failure is not None:
        field.problems.append(f"{field.stop.failure!r}")
        field.stop.failure = None
    try:
        field.direct.settle()
        counts = verify(field)
        audits.run()
    except (Exception, SystemExit) as error:  # noqa: BLE001
        field.problems.append(f"at the end: {error!r}")
        counts = {}
    end_ours(field)
    table(run.times)
    print(f"\n  {run.count} faults of {len(run.times)} kinds; {run.recomputer.done} recomputes")
    print("  records: " + ", ".join(f"{what} {count}" for what, count in counts.items()))
    print(f"  {audits.audited} answers audited of {field.answers()}, {audits.wrong} wrong")
    print(f"  positions that went back: {field.back or 'none'}")
    print("  answers that were refused, by fault and name, each with one that was")
    for (fault, code), (count, told) in sorted(field.refused.items()):
        print(f"    {fault:<42} {count:>5} {code}: {told[:160]}")
    return not field.problems


def end_ours(field: Field) -> None:
    ended = field.ours.ended()
    field.problems += [f"at the end: {name} ended by itself with {code}" for name, code in ended.items()]
    try:
        codes = field.ours.stop()
    except subprocess.TimeoutExpired as error:
        field.problems.append(f"at the end: {error}")
        return
    field.problems += [f"{name} ended with {code}" for name, code in codes.items() if name not in ended and code not in (0, 130)]


def main() -> int:
    arguments = parsed()
    seed = arguments.seed if arguments.seed is not None else random.SystemRandom().randrange(1 << 31)
    print(f"chaos on real servers: seed {seed}", flush=True)
    work = Path(tempfile.mkdtemp(prefix="tidemark-chaos-"))
    field = Field(work, seed)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        field.open(tidemark(arguments.tidemark, ROOT).resolve(), arguments.one_process, arguments.askers)
        if not field.disk.works:
            print("  no file system can be mounted here: no full disk in this run")
        print(f"  our processes: {', '.join(field.ours.names)}", flush=True)
        field.begin(arguments.rate)
        audits = Audits(field)
        run = Run(field, audits, Recomputer(field.ours.door, work))
        try:
            play(field, run, arguments, random.Random(seed))
        except KeyboardInterrupt:
            run.broken_off()
        holds = finish(field, run, audits)
    finally:
        field.clean_up()
    if not holds:
        print(f"FAILED (seed {seed}, kept {work}):", *field.problems[:30], sep="\n  ")
        return 1
    shutil.rmtree(work)
    print("chaos: nothing lost, nothing doubled, nothing wrong")
    return 0


if __name__ == "__main__":
    sys.exit(main())
