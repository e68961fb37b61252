"""Kills a running `tidemark up` at random moments while it takes records in, runs the batch layer, recomputes and answers.

    make chaos          or          python3 e2e/chaos/stream.py --kills 200 --answers 20000

Afterwards: every acknowledged record is in the answer, once, under the position that its producer was told; every
answer that was given meanwhile is what `tidemark audit` derives from the master dataset; and what the process refused to
answer, it refused by name. Ends with exit code 1 on the first of these that does not hold.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

from load import DATASET, ROOT, Asker, Producer, Recomputer, audit, compare, ends_of, refusals, rows_of, together
from server import Server, Stopper, tidemark


def verify(server: Server, producers: list[Producer]) -> list[str]:
    """What does not hold of the final state."""
    told = [producer.acknowledged for producer in producers]
    acknowledged, problems = together(told)
    lost, doubled = compare(acknowledged, rows_of(server, ends_of(told)))
    return problems + doubled + [f"acknowledged record {name} at {at} is not there" for at, name in lost.items()]


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
    stop, recomputer = Stopper(), Recomputer(server, work)
    producers = [Producer(server, seed, number) for number in range(2)]
    askers = [Asker(server, work / f"answers-{number}.ndjson", seed + number) for number in range(2)]
    threads = [stop.thread(producer.run, stop, 1_000.0) for producer in producers]
    threads += [stop.thread(asker.run, stop, 0.005) for asker in askers]
    threads.append(stop.thread(recomputer.run, stop))
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
                print(f"  {kills} kills, {answers()} answers, {recomputer.done} recomputes", flush=True)
    stop.event.set()
    for thread in threads:
        thread.join(timeout=120)
    if stop.failure is not None:
        print(f"FAILED (seed {seed}, kept {work}): {stop.failure!r}\n{server.log.read_text()[-3000:]}")
        return 1
    problems = verify(server, producers)
    merged = work / "answers.ndjson"
    merged.write_text("".join(asker.out.read_text() for asker in askers))
    report, wrong = audit(server, merged, answers())
    problems += wrong
    if server.stop() not in (0, 130):
        problems.append(f"`up` ended with {server.process.returncode}")
    print(f"  {kills} kills, slowest restart {max(restarts_s, default=0):.1f} s, {recomputer.done} recomputes")
    print(f"  {report.get('audited')} answers audited, {report.get('wrong')} wrong; refused by name: {refusals(askers) or 'none'}")
    if problems:
        print(f"FAILED (seed {seed}, kept {work}):", *problems[:20], sep="\n  ")
        return 1
    shutil.rmtree(work)
    print("chaos: nothing lost, nothing doubled, nothing wrong")
    return 0


if __name__ == "__main__":
    sys.exit(main())
