"""Breaks the hand-off's invariants on purpose, one named patch at a time, and checks that a test notices.

    make mutants          or          python3 e2e/mutants/run.py [--only H3] [--check]

A patch begins with what it breaks and which test must fail (`# breaks:`, `# test:`, a command of cargo). The patches are
applied to a copy of the tracked files beside the target folder; dependencies are those that are compiled there, our own
crates have a profile of their own, so that no other build ever takes up what a patch left. First the tests must pass
without any patch. A patch that applies no longer, or does not compile, is a failure like one that no test notices.
`--check` only looks whether all patches apply. Exit code 1: one survived. Standard library only.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CRATES = ["shared", "stores", "testing", "batch", "speed", "serving", "e2e"]
INVARIANTS = [f"H{n}" for n in range(1, 11)]
# a test that does not end has not noticed anything, as far as can be told
TEST_SECONDS_MAX = 600


@dataclass
class Mutant:
    name: str
    patch: Path
    breaks: str
    command: list[str]
    filters: list[str]

    @property
    def invariant(self) -> str:
        return self.name.split("-", 1)[0]


def mutants(only: str) -> list[Mutant]:
    found = []
    for patch in sorted(Path(__file__).parent.glob("*.patch"), key=lambda p: (int(p.name[1:].split("-")[0]), p.name)):
        header = dict(line[2:].rstrip().split(": ", 1) for line in patch.open() if line.startswith("# "))
        words = shlex.split(header["test"])
        at = words.index("--test") + 2 if "--test" in words else words.index("--lib") + 1
        found.append(Mutant(patch.stem, patch, header["breaks"], words[:at], words[at:]))
    missing = [name for name in INVARIANTS if not any(mutant.invariant == name for mutant in found)]
    if missing:
        raise SystemExit(f"no patch breaks {', '.join(missing)}")
    return [mutant for mutant in found if mutant.name.startswith(only)]


def apply(mutant: Mutant, folder: Path, *flags: str) -> bool:
    command = ["git", "apply", *flags, str(mutant.patch)]
    # outside of any repository: `git apply` would pass by what the repository around the copy ignores
    env = {**os.environ, "GIT_CEILING_DIRECTORIES": str(folder.parent)}
    return subprocess.run(command, cwd=folder, env=env).returncode == 0


def copy(folder: Path) -> None:
    """The tracked files, as they are now, with the time of now: what was compiled of an earlier copy is old."""
    shutil.rmtree(folder, ignore_errors=True)
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.split(b"\0")
    for name in filter(None, names):
        source, target = ROOT / name.decode(), folder / name.decode()
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
            shutil.copymode(source, target)


def cargo(command: list[str], arguments: list[str], folder: Path, target: Path, flags: list[str]) -> tuple[int, str]:
    profile = [word for crate in CRATES for word in ("--config", f"profile.dev.package.tidemark-{crate}.debug=false")]
    env = {**os.environ, "CARGO_TARGET_DIR": str(target), "CARGO_INCREMENTAL": "0", "CARGO_TERM_COLOR": "never"}
    process = subprocess.Popen(
        [*command, *flags, *profile, *arguments],
        cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )
    building = "--no-run" in arguments
    try:
        output, _ = process.communicate(timeout=None if building else TEST_SECONDS_MAX)
        return process.returncode, output
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        output, _ = process.communicate()
        return 124, output


def baseline(chosen: list[Mutant], folder: Path, target: Path, flags: list[str]) -> None:
    """All tests that are to fail must be there and pass while nothing is broken."""
    by_command: dict[tuple[str, ...], set[str]] = {}
    for mutant in chosen:
        by_command.setdefault(tuple(mutant.command), set()).update(mutant.filters)
    for command, filters in by_command.items():
        code, output = cargo([*command], ["--no-run"], folder, target, flags)
        if code == 0:
            code, output = cargo([*command], ["--", *sorted(filters)], folder, target, flags)
        unknown = [name for name in filters if name not in output]
        if code != 0 or unknown:
            print(output[-4000:])
            what = f"no such test: {', '.join(unknown)}" if code == 0 else "it fails with nothing broken"
            raise SystemExit(f"{' '.join(command)}: {what}")


def outcome(mutant: Mutant, folder: Path, target: Path, flags: list[str]) -> str:
    code, output = cargo(mutant.command, ["--no-run"], folder, target, flags)
    if code != 0:
        print(output[-4000:])
        return "DOES NOT COMPILE"
    code, output = cargo(mutant.command, ["--", *mutant.filters], folder, target, flags)
    if code == 124:
        return "NEVER ENDS"
    if code != 0 and "test result: FAILED" in output:
        return "noticed"
    print(output[-4000:])
    return "SURVIVED" if code == 0 else f"FAILED otherwise ({code})"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only look whether all patches apply")
    parser.add_argument("--only", default="", help="patches whose names begin so")
    parser.add_argument("--target", type=Path, default=os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    parser.add_argument("--cargo-flags", default="", help="further arguments of cargo")
    args = parser.parse_args()
    chosen = mutants(args.only)
    if args.check:
        stale = [mutant.name for mutant in chosen if not apply(mutant, ROOT, "--check")]
        print(f"{len(chosen)} mutants, {len(stale)} do not apply" + "".join(f"\n  {name}" for name in stale))
        return 1 if stale else 0
    target, flags = args.target.resolve(), shlex.split(args.cargo_flags)
    folder = target / "mutants"
    copy(folder)
    baseline(chosen, folder, target, flags)
    rows = []
    for mutant in chosen:
        begun = time.monotonic()
        if apply(mutant, folder):
            result = outcome(mutant, folder, target, flags)
            if not apply(mutant, folder, "--reverse"):
                raise SystemExit(f"{mutant.name} can't be taken back")
        else:
            result = "DOES NOT APPLY"
        rows.append((mutant.name, " ".join(mutant.filters), result))
        print(f"{mutant.name:<50} {result} ({time.monotonic() - begun:.0f} s)", flush=True)
    print(f"\n{'broken on purpose':<50} {'outcome':<22} test")
    for name, test, result in rows:
        print(f"{name:<50} {result:<22} {test}")
    survived = [name for name, _, result in rows if not result.startswith("noticed")]
    print(f"\n{len(rows)} broken, {len(rows) - len(survived)} noticed")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
