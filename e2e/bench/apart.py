"""OpenSearch on processors of its own, and all else on the others: as where each has a machine. What is left of its speed then is
not what others took of its processors."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from servers import ALL, Servers

SEARCH = "opensearch"


def halves() -> tuple[set[int], set[int]] | None:
    """The processors in two halves, the first no larger; nothing where there is only one."""
    processors = sorted(os.sched_getaffinity(0))
    half = len(processors) // 2
    return (set(processors[:half]), set(processors[half:])) if half else None


def keep_to(processes: Iterable[int], processors: set[int]) -> None:
    """All threads of these, and whatever they start, run on these processors only."""
    for process in processes:
        # it may have ended since, and so may one of its threads
        with suppress(FileNotFoundError, ProcessLookupError):
            for thread in list(Path(f"/proc/{process}/task").iterdir()):
                with suppress(ProcessLookupError):
                    os.sched_setaffinity(int(thread.name), processors)


@contextmanager
def apart(servers: Servers, search: set[int], rest: set[int]) -> Iterator[None]:
    """While it lasts, OpenSearch has some processors to itself; this process, what it starts and the other servers have the rest."""
    others = [process for name in ALL if name != SEARCH for process in servers.processes(name)]
    try:
        keep_to(servers.processes(SEARCH), search)
        keep_to([*others, os.getpid()], rest)
        yield
    finally:
        # this one first, whatever became of the servers: they may have ended, or been started anew
        keep_to([os.getpid()], search | rest)
        for name in ALL:
            with suppress(FileNotFoundError):
                keep_to(servers.processes(name), search | rest)
