"""Which trips benchmarks ask about: real ones where they are at hand, else synthetic ones. Standard library only.

    python3 e2e/bench/trips.py batch      says which ones bench-batch takes
    python3 e2e/bench/trips.py speed      says which ones bench-speed asks its questions of

Both are said before the build, and a folder that is named and holds none ends the benchmark there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "e2e" / "oracle"))

from rules import is_csv  # noqa: E402

VARIABLE = "TIDEMARK_TRIPS_DIR"
#: Where bench-batch works unless told otherwise; bench-speed finds its trips there.
WORK = ROOT / "target/bench-batch"
COPIES = 30
#: As many files as there are of real trips, and as many records in each.
MONTHS, RECORDS_A_MONTH = 30, 10_000
#: The generator breaks lines of the first year on purpose; DuckDB is to read the same files as we.
MONTHS_BROKEN = 12


def has_csv(folder: Path) -> bool:
    return folder.is_dir() and any(is_csv(path) for path in folder.iterdir())


def real() -> Path | None:
    """The folder of real yellow-taxi trips, as the end-to-end tests look for it; none where nobody named one and there is
    none beside the repository."""
    named = os.environ.get(VARIABLE)
    folder = Path(named or ROOT / "../shared/data/nyc-taxi") / "yellow"
    if has_csv(folder):
        return folder
    if named:
        raise SystemExit(f"{VARIABLE}={named}: no CSV file in {folder}; name the folder above `yellow`, or unset it for synthetic trips")
    return None


def replicated(work: Path, copies: int, synthetic: bool) -> Path:
    """Where bench-batch leaves what it made of either kind."""
    return work / f"replicated-{'synthetic-' if synthetic else ''}{copies}"


def left_by_batch() -> Path | None:
    """What bench-batch left, real trips before synthetic ones."""
    folders = (replicated(WORK, COPIES, synthetic) for synthetic in (False, True))
    return next((folder for folder in folders if has_csv(folder)), None)


def synthetic(generator: Path, work: Path) -> Path:
    """Makes a folder of synthetic trips, all of them whole, if it is not there; its path."""
    folder = work / "synthetic"
    if has_csv(folder):
        return folder
    part = work / "synthetic.part"
    shutil.rmtree(part, ignore_errors=True)
    months = MONTHS_BROKEN + MONTHS
    command = [str(generator), "--months", str(months), "--rows", str(months * RECORDS_A_MONTH), "--out", str(part)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    for path in sorted(part.glob("*.csv*"))[:MONTHS_BROKEN]:
        path.unlink()
    # it counts the removed months, too
    (part / "manifest.json").unlink()
    part.rename(folder)
    return folder


def main() -> int:
    if sys.argv[1:] == ["batch"]:
        folder = real()
        print(f"trips: {folder}" if folder else f"no real trips ({VARIABLE} names the folder above `yellow`): synthetic ones stand in")
    elif sys.argv[1:] == ["speed"]:
        folder = left_by_batch()
        print(f"questions: of {folder}" if folder else "no trips for the questions, which are left out: `make bench-batch` makes them")
    else:
        raise SystemExit(__doc__)
    return 0


if __name__ == "__main__":
    sys.exit(main())
