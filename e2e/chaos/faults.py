"""The faults of `stack.py`, a function each: it brings the fault about, ends it, and tells from when on recovery counts."""

from __future__ import annotations

import signal
import time
import urllib.error
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from field import PARTITIONS, Field
from load import DATASET
from ours import until

#: How long a fault lasts: servers away, and connections that misbehave.
AWAY_S = (2.0, 5.0)
#: Longer than any time after which somebody is taken for dead: librdkafka's sessions and transactions.
ZOMBIE_S = (16.0, 20.0)
NOTICED_WITHIN_S = 60

Inject = Callable[[Field], float]


@dataclass(frozen=True)
class Fault:
    kind: str
    inject: Inject
    #: Until the product says something of it: the fault must not be silent.
    alarms: bool = False
    #: It takes an index: who loses rows steps back to where they began, and says so by another epoch.
    steps_back: bool = False


# ---- servers ---------------------------------------------------------------------------------------


def server_killed(server: str, field: Field) -> float:
    field.servers.kill(server)
    field.pause(*AWAY_S)
    field.restart(server)
    return time.monotonic()


def server_ended(server: str, number: signal.Signals, field: Field) -> float:
    field.servers.end(server, number)
    field.restart(server)
    return time.monotonic()


def server_stopped(server: str, field: Field) -> float:
    field.servers.signal(server, signal.SIGSTOP)
    field.pause(*AWAY_S)
    field.servers.signal(server, signal.SIGCONT)
    return time.monotonic()


def connections(server: str, how: dict, field: Field) -> float:
    field.proxy.tell(server, **how)
    field.pause(*AWAY_S)
    field.proxy.tell(server, mode="pass", afresh=how["mode"] == "cut")
    return time.monotonic()


BUSY = {
    "mode": "answer", "match": "_bulk", "status": 429,
    "body": '{"error": {"type": "rejected_execution_exception", "reason": "rejected execution of primary operation"}, "status": 429}',
}
SLOW_DOWN = {
    "mode": "answer", "status": 503, "content_type": "application/xml",
    "body": "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>",
}


# ---- OpenSearch ------------------------------------------------------------------------------------


def index_deleted(kind: str, newest: int, field: Field) -> float:
    """One of the newest so many: of those before them all rows may be curated, and nobody needs them."""

    def is_deleted() -> bool:
        found = field.indices(kind)
        if not found:
            return False
        index = field.chance.choice(found[-newest:])
        field.steps_back.take(index)
        try:
            field.search("DELETE", index)
        except urllib.error.HTTPError as error:
            # between the two looks its owner has let it go
            if error.code == 404:
                return False
            raise
        return True

    until("an index that can be deleted", NOTICED_WITHIN_S, is_deleted)
    return time.monotonic()


def disk_watermark(field: Field) -> float:
    field.block_writes(True)
    field.pause(*AWAY_S)
    field.block_writes(False)
    return time.monotonic()


# ---- Kafka -----------------------------------------------------------------------------------------


def topic_made_again(field: Field) -> float:
    with field.quiet(), field.direct.away():
        field.topics.delete(DATASET)
        # whoever makes it again: it is another incarnation
        field.incarnation += 1
        field.direct.source = field.source
        field.pause(*AWAY_S)
        field.topics.create(DATASET, PARTITIONS)
        begun = time.monotonic()
        name = f"{field.source}/0"
        until(f"partition {name} in the status", NOTICED_WITHIN_S, lambda: name in (field.status() or {}).get("partitions", {}))
    return begun


def partition_added(field: Field) -> float:
    count = field.topics.add_partition(DATASET)
    begun = time.monotonic()
    name = f"{field.source}/{count - 1}"
    until(f"partition {name} in the status", NOTICED_WITHIN_S, lambda: name in (field.status() or {}).get("partitions", {}))
    until("a record in it", NOTICED_WITHIN_S, lambda: name in field.ends())
    return begun


def retention_overtakes(field: Field) -> float:
    """Records that nobody has read leave the log while all of ours are away."""
    with field.quiet():
        status = until("a status", NOTICED_WITHIN_S, field.status)
        before = {name: partition["archived"] or 0 for name, partition in status["partitions"].items()
                  if name.rsplit("/", 1)[0] == field.source}
        field.ours.kill()
        for _ in range(400):
            field.direct.send()
        field.direct.settle()
        ends = field.ends()
        # first, for a deletion that fails may have begun
        for name, end in ends.items():
            if end > before.get(name, 0):
                field.taken.setdefault(name, []).append((before.get(name, 0), end))
        field.topics.delete_records(DATASET, {int(name.rsplit("/", 1)[1]): end for name, end in ends.items()})
    begun = time.monotonic()
    field.ours.start()
    return begun


# ---- S3's disk, our processes ----------------------------------------------------------------------


def disk_full(field: Field) -> float:
    field.disk.fill()
    field.pause(*AWAY_S)
    field.disk.clear()
    return time.monotonic()


def ours_killed(name: str, field: Field) -> float:
    begun = time.monotonic()
    field.ours.kill(name)
    field.ours.start(name)
    return begun


def ours_stopped(name: str, field: Field) -> float:
    field.ours.signal(name, signal.SIGSTOP)
    field.pause(*ZOMBIE_S)
    field.ours.signal(name, signal.SIGCONT)
    return time.monotonic()


def all_of(field: Field) -> list[Fault]:
    """Those that can be had here, in an order that means nothing."""
    faults = []
    for server in ("opensearch", "kafka", "s3", "postgres"):
        faults.append(Fault(f"{server} killed", partial(server_killed, server)))
        faults.append(Fault(f"{server} stopped", partial(server_stopped, server)))
        for how in ({"mode": "delay", "delay_s": 0.15}, {"mode": "cut"}, {"mode": "reset"}, {"mode": "refuse"}):
            faults.append(Fault(f"{server} connections: {how['mode']}", partial(connections, server, how)))
    faults += [
        Fault("opensearch newest index deleted", partial(index_deleted, "rows__*", 1), alarms=True, steps_back=True),
        Fault("opensearch index deleted", partial(index_deleted, "rows__*", 100), steps_back=True),
        Fault("opensearch view deleted", partial(index_deleted, "state", 1), alarms=True, steps_back=True),
        Fault("opensearch read-only by watermark", disk_watermark),
        Fault("opensearch rejects with 429", partial(connections, "opensearch", BUSY)),
        Fault("s3 refuses with 503", partial(connections, "s3", SLOW_DOWN)),
        Fault("postgres restarted", partial(server_ended, "postgres", signal.SIGINT)),
        Fault("topic made again", topic_made_again, alarms=True),
        Fault("topic gets a partition", partition_added),
        Fault("topic's retention overtakes the archive", retention_overtakes, alarms=True),
    ]
    if field.disk.works:
        faults.append(Fault("s3's disk full", disk_full))
    for name in field.ours.names:
        faults.append(Fault(f"ours killed: {name}", partial(ours_killed, name)))
        faults.append(Fault(f"ours stopped for long: {name}", partial(ours_stopped, name)))
    return faults
