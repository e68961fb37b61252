"""The field on which `stack.py` plays: servers, proxies, our processes and the load, with what faults need of them."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

from back import StepsBack
from direct import DirectProducer, Topics
from load import DATASET, EXPECTED, ROOT, TABLE, Acknowledged, Asker, Producer, ends_of
from ours import ROLES, Ours, dataset_status, until
from proxy import Proxy
from server import Down, Refused, Stopper
from servers import ALL, Servers

PARTITIONS = 4
#: Small indices: a run meets many of them.
INDEX_OFFSETS = 2_048
FLAGS = [
    "--batch-interval", "2s", "--segment-age-max", "300ms", "--live-index-offsets", str(INDEX_OFFSETS), "--timeout", "30s",
]
#: Refusals that name a fault. With a server that is stopped a statement may end by its time limit.
EXPECTED_OF_SERVERS = EXPECTED | {"exhausted", "busy", "time_limit"}
#: How long all may take to be as it was after a fault.
RECOVERY_WITHIN_S = 240
ANSWER_WITHIN_S = 90
#: The disk that S3's objects lie on, where mounting is possible. Each of them takes some seven files and folders of a page each, and
#: an hour brings tens of thousands.
DISK_BYTES, DISK_BYTES_A_FILE = 8 << 30, 4 << 10
#: What is said in the log of a process that is not as it should be.
ALARM = re.compile(r"\b(WARN|ERROR)\b")


class Disk:
    """A small file system in a file, so that one disk can be full while others are not. Needs root."""

    def __init__(self, folder: Path, image: Path) -> None:
        self.folder, self.image, self.filler = folder, image, folder / "filler"
        folder.mkdir(parents=True, exist_ok=True)
        with image.open("wb") as file:
            file.truncate(DISK_BYTES)
        commands = [
            ["mkfs.ext4", "-q", "-F", "-m", "0", "-i", str(DISK_BYTES_A_FILE), str(image)],
            # the image is empty: nothing has to be zeroed, which would take up its room
            ["mount", "-o", "loop,noinit_itable", str(image), str(folder)],
        ]
        try:
            self.works = all(subprocess.run(command, capture_output=True).returncode == 0 for command in commands)
        except OSError:
            self.works = False

    def fill(self) -> None:
        with self.filler.open("wb", buffering=0) as file:
            while free := shutil.disk_usage(self.folder).free:
                with contextlib.suppress(OSError):
                    os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), max(free * 9 // 10, 4 << 10))
                    continue
                break
            # the last blocks, too
            for size in (16 << 20, 1 << 20, 4 << 10):
                with contextlib.suppress(OSError):
                    while file.write(b"\0" * size) == size:
                        pass

    def clear(self) -> None:
        self.filler.unlink(missing_ok=True)

    def unmount(self) -> None:
        if self.works:
            subprocess.run(["umount", "-l", str(self.folder)], check=False)


class Watcher(Asker):
    """An asker that also sees that no position goes back."""

    def __init__(self, field: "Field", out: Path, seed: int, questions: list[str] | None = None) -> None:
        super().__init__(field.ours.door, out, seed, questions, EXPECTED_OF_SERVERS)
        self.field = field
        #: Table and partition → the last position, and when it was asked for.
        self.last: dict[tuple[str, str], tuple[int, float]] = {}

    def note(self, refused: Refused) -> None:
        self.refused[refused.code] = self.refused.get(refused.code, 0) + 1
        self.field.note_refusal(refused, is_expected=refused.code in self.expected)

    def take(self, answer: dict, asked: float) -> None:
        super().take(answer, asked)
        # what is curated is behind what is live: each table goes forward by itself
        table = answer["sql"].split(" FROM ", 1)[1].split()[0]
        for partition, end in answer["as_of"][DATASET]["positions"].items():
            before, since = self.last.get((table, partition), (0, 0.0))
            if end < before:
                self.field.note_step_back(table, partition, before, end, since)
            self.last[table, partition] = end, asked


class Field:
    """Everything that runs."""

    def __init__(self, work: Path, seed: int) -> None:
        self.work, self.seed, self.chance = work, seed, random.Random(seed)
        self.proxy = Proxy()
        #: The fault that is under way, or whose traces are not gone yet.
        self.fault = ""
        self.problems: list[str] = []
        self.back: dict[str, int] = {}
        self.steps_back = StepsBack()
        #: Held by who counts: askers do, side by side.
        self.counting = threading.Lock()
        #: Fault and code → how many answers were refused, and the last of them.
        self.refused: dict[tuple[str, str], tuple[int, str]] = {}
        #: Offsets that a fault took from the log before anybody had read them: partition → exclusive ranges.
        self.taken: dict[str, list[tuple[int, int]]] = {}
        self.incarnation = 1
        self.disk = Disk(work / "servers" / "s3", work / "disk.img")
        # its listener has to know the proxy's port before it starts
        behind = self.proxy.tell("kafka", to=["127.0.0.1", 9])
        self.servers = Servers(work / "servers", {"KAFKA_PROXY_PORT": str(behind)})
        self.ours: Ours | None = None
        self.stop = Stopper()
        self.threads: list = []

    def open(self, binary: Path, one_process: bool, askers: int) -> None:
        """Starts the servers; nothing of ours runs yet."""
        work, seed = self.work, self.seed
        self.servers.up(*ALL)
        self.env = self.environment()
        self.ours = Ours(binary, work, FLAGS, self.env, () if one_process else ROLES)
        self.topics = Topics(self.servers.told["TIDEMARK_TEST_KAFKA"])
        self.producers = [Producer(self.ours.door, seed, number) for number in range(2)]
        self.direct = DirectProducer(self.servers.told["TIDEMARK_TEST_KAFKA"], DATASET, seed)
        rare = [TABLE.replace("merged", layer) for layer in ("batch", "live")]
        rare = [f'SELECT count(*), sum("cents"), sum("_offset") FROM {table}' for table in rare]
        self.watchers = [Watcher(self, work / f"answers-{number}.ndjson", seed + number) for number in range(askers)]
        self.rare = Watcher(self, work / "answers-layers.ndjson", seed + askers, rare)

    def environment(self) -> dict[str, str]:
        """How our processes find the servers: through the proxy."""
        for name in ALL:
            self.retarget(name)
        return self.servers.environment("chaos", through={name: self.proxy.tell(name) for name in ALL})

    def retarget(self, name: str) -> None:
        """A server that was started again may have another port."""
        to = self.servers.address(name)
        if name == "kafka":
            host, port = self.servers.told["TIDEMARK_TEST_KAFKA_PROXIED"].split(":")
            to = (host, int(port))
        self.proxy.tell(name, to=list(to))

    def begin(self, rate: float) -> None:
        door = self.ours.door
        door.run("dataset", "apply", str(ROOT / "datasets" / DATASET))
        self.ours.start()
        for producer in self.producers:
            self.threads.append(self.stop.thread(producer.run, self.stop, rate))
        until("the topic", 60, lambda: self.topics.partitions(DATASET) == PARTITIONS)
        self.threads.append(self.stop.thread(self.direct.run, self.stop, rate))
        self.threads += [self.stop.thread(watcher.run, self.stop, 0.1) for watcher in self.watchers]
        self.threads.append(self.stop.thread(self.rare.run, self.stop, 10))
        self.direct.calm.set()

    # ---- what is known ------------------------------------------------------------------------

    @property
    def source(self) -> str:
        return DATASET if self.incarnation == 1 else f"{DATASET}~{self.incarnation}"

    def acknowledged(self) -> list[Acknowledged]:
        return [producer.acknowledged for producer in [*self.producers, self.direct]]

    def ends(self) -> dict[str, int]:
        """Where an answer has all that was acknowledged until now, in the partitions that there are now."""
        ends = ends_of(self.acknowledged())
        # what was taken from the log is covered like what was read
        for partition, ranges in self.taken.items():
            ends[partition] = max([ends.get(partition, 0), *(end for _, end in ranges)])
        return {partition: end for partition, end in ends.items() if partition.rsplit("/", 1)[0] == self.source}

    def answers(self) -> int:
        return sum(asker.answers for asker in [*self.watchers, self.rare])

    def status(self) -> dict | None:
        return dataset_status(self.ours.door, DATASET)

    def standing(self) -> str:
        """How all stands, for people: whose position is where, and what is said to fail."""
        try:
            status = self.ours.door.ask("GET", "/v1/status", timeout_s=20)
        except (Down, Refused) as error:
            return f"no status: {error}"
        lines = [f"failed: {status['failed']}"] if status["failed"] else []
        for dataset in status["datasets"]:
            lines += [
                f"{name}: log end {at['log_end']}, archived {at['archived']}, visible {at['visible']}, curated {at['coverage']}"
                f", {at['lag_ms']} ms behind {at.get('errors') or ''}"
                for name, at in dataset["partitions"].items()
            ]
        lines += [f"{name}: {task['error']}" for name, task in status["tasks"].items() if task["error"]]
        return "\n        ".join(lines)

    def note_refusal(self, refused: Refused, is_expected: bool) -> None:
        with self.counting:
            key = (self.fault, refused.code)
            count, _ = self.refused.get(key, (0, ""))
            if not is_expected and count == 0:
                self.problems.append(f"{self.fault}: an answer was refused with {refused}")
            self.refused[key] = (count + 1, str(refused))

    def note_step_back(self, table: str, partition: str, before: int, after: int, since: float) -> None:
        """A position went back, at some time after `since`."""
        with self.counting:
            self.back[self.fault] = self.back.get(self.fault, 0) + 1
            if not self.steps_back.excuse(table, partition, after, since):
                self.problems.append(f"{self.fault}: the position of {partition} in {table} went back from {before} to {after}")

    def logs_say_since(self, marks: dict[str, int]) -> bool:
        for name, server in self.ours.all.items():
            with server.log.open("rb") as log:
                log.seek(marks.get(name, 0))
                if ALARM.search(log.read().decode(errors="replace")):
                    return True
        return False

    def log_marks(self) -> dict[str, int]:
        return {name: server.log.stat().st_size for name, server in self.ours.all.items()}

    # ---- what faults do -----------------------------------------------------------------------

    def pause(self, least_s: float, most_s: float) -> None:
        """For how long a fault lasts: there is no condition to wait for."""
        self.stop.event.wait(self.chance.uniform(least_s, most_s))

    @contextlib.contextmanager
    def quiet(self):
        """Nobody produces; all that was acknowledged is archived."""
        with contextlib.ExitStack() as turns:
            for producer in [*self.producers, self.direct]:
                if not producer.turn.acquire(timeout=RECOVERY_WITHIN_S):
                    raise TimeoutError("a producer is not acknowledged")
                turns.callback(producer.turn.release)
            self.direct.settle()
            self.archive_all()
            yield

    def archive_all(self) -> None:
        ends = self.ends()

        def archived() -> bool:
            status = self.status()
            if status is None:
                return False
            partitions = status["partitions"]
            return all((partitions.get(name, {}).get("archived") or 0) >= end for name, end in ends.items())

        until("an archive of all records", RECOVERY_WITHIN_S, archived, pause_s=0.2)

    def heal(self) -> None:
        """Ends whatever a fault that failed has left behind."""
        for name in ALL:
            self.proxy.tell(name, mode="pass", afresh=True)
            with contextlib.suppress(OSError, ValueError):
                self.servers.signal(name, signal.SIGCONT)
            self.restart(name)
        if self.disk.works:
            self.disk.clear()
        self.block_writes(False)
        if not self.topics.partitions(DATASET):
            self.topics.create(DATASET, PARTITIONS)
        for name, server in self.ours.all.items():
            if server.process is None or server.process.poll() is not None:
                self.ours.start(name)
            else:
                self.ours.signal(name, signal.SIGCONT)

    def restart(self, name: str) -> None:
        self.servers.start_again(name)
        self.retarget(name)

    def search(self, method: str, path: str, body: object = None) -> object:
        """Asks OpenSearch itself, past the proxy."""
        host, port = self.servers.address("opensearch")
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://{host}:{port}/{path}", data, {"content-type": "application/json"}, method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=60) as answer:
            return json.loads(answer.read() or b"null")

    def block_writes(self, are_blocked: bool) -> None:
        """As OpenSearch itself does when its disk is nearly full, and takes back. Indices that were made meanwhile have no block."""
        block = {"index.blocks.read_only_allow_delete": True if are_blocked else None}

        def is_done() -> bool:
            try:
                self.search("PUT", "chaos__*/_settings?allow_no_indices=true&ignore_unavailable=true", block)
            except urllib.error.HTTPError as error:
                # its owner has let one go since the names were looked up
                if error.code == 404:
                    return False
                raise
            return True

        until("a block on all indices", RECOVERY_WITHIN_S, is_done)

    def indices(self, kind: str) -> list[str]:
        """Names, in the order in which they were made."""
        path = f"_cat/indices/chaos__{DATASET}__*__{kind}?format=json&h=index&s=creation.date"
        return [index["index"] for index in self.search("GET", path)]

    # ---- afterwards ---------------------------------------------------------------------------

    def answered(self, table: str, ends: dict[str, int], deadline: float) -> float:
        """When an answer covered these positions."""
        while True:
            try:
                within_s = max(1.0, min(ANSWER_WITHIN_S, deadline - time.monotonic()))
                self.ours.door.sql(f"SELECT count(*) FROM {table}", at_least={DATASET: ends}, within_s=within_s)
                return time.monotonic()
            except (Down, Refused) as error:
                if self.stop.failure is not None or time.monotonic() > deadline:
                    raise TimeoutError(f"no answer of {table} that covers all that was acknowledged: {error}") from error
                time.sleep(0.05)

    def recovered(self, since: float) -> tuple[float, float]:
        """Seconds from `since` until a merged answer covers all that is acknowledged now; until the curated table does."""
        ends = self.ends()
        deadline = time.monotonic() + RECOVERY_WITHIN_S
        merged = self.answered(TABLE, ends, deadline) - since
        return merged, self.answered(TABLE.replace("merged", "batch"), ends, deadline) - since

    def clean_up(self) -> None:
        self.stop.event.set()
        if self.ours is not None:
            self.ours.clean_up()
        for name in ALL:
            with contextlib.suppress(OSError, ValueError):
                self.servers.signal(name, signal.SIGCONT)
        self.servers.down()
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            self.proxy.stop()
        self.disk.unmount()
        if self.disk.image.exists():
            os.unlink(self.disk.image)
