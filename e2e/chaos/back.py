"""Which visible positions may step back, and for how long: those of partitions whose rows a fault took with their index. Standard
library only."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

#: For so long after a fault nobody may have noticed it: who writes to an index misses it at once, and all others are looked over every
#: ten seconds, by processes that the next faults hold up.
EXCUSED_FOR_S = 45.0
ROWS = re.compile(r"__rows__(?P<source>.+)__(?P<partition>\d+)__(?P<start>\d{20})$")
#: Tables whose answers have rows of views.
OF_VIEWS = ("merged", "live")


@dataclass
class StepBack:
    """What one fault excuses."""

    #: `None`: any.
    partition: str | None = None
    #: The lowest position to step back to.
    least: int = 0
    #: By the monotonic clock; the fault is under way until somebody says otherwise.
    until: float = math.inf


class StepsBack:
    """What all faults until now excuse."""

    def __init__(self) -> None:
        self.all: list[StepBack] = []
        self.current: StepBack | None = None

    def begin(self) -> None:
        """A fault begins that takes an index."""
        self.current = StepBack()
        self.all.append(self.current)

    def take(self, index: str) -> None:
        """It is this one."""
        if self.current is None:
            raise AssertionError(f"{index} is taken by a fault that is not said to make positions step back")
        self.current.partition, self.current.least = rows_of_index(index)

    def end(self, now: float) -> None:
        """The fault is over, if one was under way."""
        if self.current is not None:
            self.current.until, self.current = now + EXCUSED_FOR_S, None

    def excuse(self, table: str, partition: str, position: int, since: float) -> bool:
        """True if a position may have stepped back to this one at some time after `since`."""
        of_view = table.split(".", 1)[0] in OF_VIEWS
        return of_view and any(
            step.until >= since and step.partition in (None, partition) and position >= step.least for step in self.all
        )


def rows_of_index(name: str) -> tuple[str | None, int]:
    """Partition of the rows that an index holds, and its first offset; no partition for an index that holds those of a whole view."""
    found = ROWS.search(name)
    if found is None:
        return None, 0
    source = re.sub(r"_([0-9a-f]{2})", lambda byte: chr(int(byte[1], 16)), found["source"])
    return f"{source}/{found['partition']}", int(found["start"])
