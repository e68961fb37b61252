"""Rules on the project's own files that no compiler knows:

- a source file has at most 500 lines and begins with what it is for;
- no absolute path of somebody's machine;
- no switched-off test, no unfinished code, no `#[allow]` (it is `#[expect(…, reason)]`), no waiting by time;
- one way to take a lock that may be poisoned, `shared/src/poison.rs`; another has its reason on the line before;
- relative links of Markdown files lead to files, and the tests that `ARCHITECTURE.md` names are where it says.

Standard library only. Exit code 0: all hold; 1: a rule is broken, one line each.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LINES_MAX = 500

CODE = {".rs", ".py", ".sh"}
TEXT = CODE | {".md", ".toml", ".sql", ".yml", ".yaml", ".json", ""}

# first folders of absolute paths that only make sense on one machine
HOMES = ["root", "home", "Users", "work"]
MACHINE_PATH = re.compile(r"(?<![\w.~$}/*-])/(?:" + "|".join(HOMES) + r")/[\w.-]+")

WAITING = "waiting by time: wait for a condition"
UNFINISHED = [
    (re.compile(r"^[ \t]*#\[ignore", re.MULTILINE), "a switched-off test"),
    (re.compile(r"\b(?:todo|unimplemented)!\("), "unfinished code"),
    (re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|X" + r"XX)\b"), "unfinished work"),
    (re.compile(r"^[ \t]*#!?\[allow\(", re.MULTILINE), "`allow` where `expect` with a reason belongs"),
    (re.compile(r"\bthread::sleep\(|\btime::sleep\(|\bpark_timeout\("), WAITING),
    # a limit on what never comes: a future without an end, a channel into which nobody sends
    (re.compile(r"\btimeout(?:_at)?\([^;{}]*\bpending(?:::<[^;{}]*>)?\(\)|\bnever\s*\.recv_timeout\("), WAITING),
]

# pauses between attempts that others spoil, and looks at what nobody announces: the two places with no condition to wait for
PAUSES = {Path("shared/src/backoff.rs"), Path("shared/testing/src/wait.rs")}

# who goes on after a holder's panic says why nothing is half done: `poison.rs` for most, by what it is only for
POISON = Path("shared/src/poison.rs")
POISONED = re.compile(r"\bPoisonError::")
COMMENT = re.compile(r"\s*//")
UNREASONED = "a poisoned lock is taken: by `lock`, `read` or `write` of tidemark_shared, or with the reason on the line before"

FENCED = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)")
# names of tests are sentences; shorter ones are modules and the like
TEST_NAME = re.compile(r"`([a-z][a-z0-9]*(?:_[a-z0-9]+){3,})`")
TESTS_NAMED = Path("ARCHITECTURE.md")


def tracked() -> list[Path]:
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.split(b"\0")
    paths = (ROOT / name.decode() for name in names if name)
    return [path for path in paths if path.suffix in TEXT and path.is_file()]


def is_fixture(path: Path) -> bool:
    return "fixtures" in path.parts or "corpus" in path.parts


def begins_with_purpose(path: Path, text: str) -> bool:
    """A module comment, or for tests the tested thing's name: a file called `tests` needs no more."""
    head = text.splitlines()[:4]
    if path.suffix == ".rs":
        # a crate's attributes may come first
        documented = any(line.startswith("//!") for line in head)
        return documented or path.stem == "tests" or "tests" in path.parts or path.name == "build.rs"
    if path.suffix == ".py":
        return text.removeprefix("#!/usr/bin/env python3\n").startswith('"""')
    return any(line.startswith("# ") for line in head)


def has_test(name: str, files: list[Path]) -> bool:
    return any(re.search(rf"\bfn {name}\b", file.read_text(encoding="utf-8")) for file in files)


def lost_links(path: Path, text: str) -> list[str]:
    found = []
    unseen = set(TEST_NAME.findall(text)) if path.relative_to(ROOT) == TESTS_NAMED else set()
    for shown, target in LINK.findall(FENCED.sub("", text)):
        place = path.parent / target.partition("#")[0]
        if "://" in target or target.startswith(("#", "mailto:")):
            continue
        if not place.exists():
            found.append(f"a link leads nowhere: {target}")
        elif unseen:
            named = TEST_NAME.findall(shown)
            files = [place] if place.is_file() else sorted(place.rglob("*.rs"))
            found += [f"no test `{name}` in {target}" for name in named if not has_test(name, files)]
            unseen -= set(named)
    if unseen:
        # named beside a link rather than in it
        files = [file for file in tracked() if file.suffix == ".rs"]
        found += [f"no test `{name}`" for name in sorted(unseen) if not has_test(name, files)]
    return found


def problems(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ["not valid UTF-8"]
    lines = text.splitlines()
    found = []
    if path.suffix in CODE:
        if len(lines) > LINES_MAX:
            found.append(f"{len(lines)} lines, at most {LINES_MAX}")
        if not begins_with_purpose(path, text):
            found.append("does not begin with what it is for")
    if path.suffix == ".md":
        found += lost_links(path, text)
    for number, line in enumerate(lines, 1):
        if MACHINE_PATH.search(line):
            found.append(f"line {number}: an absolute path of a machine")
    if path.suffix == ".rs":
        found += unfinished(text, may_wait=path.relative_to(ROOT) in PAUSES)
        if path.relative_to(ROOT) != POISON:
            found += poisoned(lines)
    return found


def unfinished(text: str, may_wait: bool) -> list[str]:
    """A call may go over several lines; it is named by its first."""
    return [
        f"line {text.count(chr(10), 0, match.start()) + 1}: {what}"
        for pattern, what in UNFINISHED
        for match in pattern.finditer(text)
        if not (may_wait and what == WAITING)
    ]


def poisoned(lines: list[str]) -> list[str]:
    return [
        f"line {number}: {UNREASONED}"
        for number, (before, line) in enumerate(zip(["", *lines], lines), 1)
        if POISONED.search(line) and not COMMENT.match(line) and not COMMENT.match(before)
    ]


def main() -> int:
    files = [path for path in tracked() if not is_fixture(path)]
    broken = [(path.relative_to(ROOT), problem) for path in files for problem in problems(path)]
    for path, problem in broken:
        print(f"tidy: {path}: {problem}", file=sys.stderr)
    if not broken:
        print(f"tidy: {len(files)} files are as they should be")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
