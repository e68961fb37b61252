"""What Kafka and OpenSearch do by themselves: records consumed by librdkafka, and documents sent by `_bulk`, with nothing in
between. The measure for what a speed layer on top of them can reach."""

from __future__ import annotations

import http.client
import json
import os
import queue
import re
import threading
import time

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from record import Recorded

PREFIX = "bare"
#: As the indexer sends: one portion for each processor at a time.
CONNECTIONS = os.cpu_count() or 1
CONSUME_AT_ONCE = 10_000
WITHIN_S = 600
JSON = {"content-type": "application/json"}
LINES = {"content-type": "application/x-ndjson"}


def preload(brokers: str, topic: str, partitions: int, keys_and_values, count: int) -> int:
    """Makes a topic with so many records; their bytes."""
    admin = AdminClient({"bootstrap.servers": brokers})
    for made in admin.create_topics([NewTopic(topic, partitions, 1)]).values():
        made.result(60)
    producer = Producer({
        "bootstrap.servers": brokers, "enable.idempotence": True, "partitioner": "murmur2_random", "compression.type": "lz4",
        "linger.ms": 20, "queue.buffering.max.messages": 200_000,
    })
    failed, size = [], 0

    def delivered(error: object, _message: object) -> None:
        if error is not None:
            failed.append(error)

    for key, value in keys_and_values:
        size += len(value)
        while True:
            try:
                producer.produce(topic, value, key=key, on_delivery=delivered)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    if producer.flush(WITHIN_S) or failed:
        raise SystemExit(f"{count} records can't be produced: {failed[:1]}")
    return size


def consume(brokers: str, topic: str, partitions: int, count: int) -> float:
    """Seconds from the assignment of all partitions to the last record."""
    consumer = Consumer({
        "bootstrap.servers": brokers, "group.id": "bare", "enable.auto.commit": False, "enable.auto.offset.store": False,
        "isolation.level": "read_committed", "check.crcs": True, "queued.min.messages": 100_000,
    })
    begun = time.perf_counter()
    consumer.assign([TopicPartition(topic, partition, 0) for partition in range(partitions)])
    read = 0
    while read < count:
        messages = consumer.consume(CONSUME_AT_ONCE, timeout=10)
        wrong = next((message.error() for message in messages if message.error() is not None), None)
        if not messages or wrong:
            raise SystemExit(f"{read} of {count} records could be consumed: {wrong}")
        read += len(messages)
    seconds = time.perf_counter() - begun
    consumer.close()
    return seconds


class Bulk:
    """Sends what was recorded once more, into indices of its own."""

    def __init__(self, host: str, port: int, recorded: Recorded) -> None:
        self.host, self.port, self.recorded = host, port, recorded
        self.rounds = 0

    def connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.host, self.port, timeout=WITHIN_S)

    def ask(self, connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None, headers: dict) -> bytes:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        text = answer.read()
        if answer.status >= 300:
            raise SystemExit(f"{method} {path}: {answer.status} {text[:500]!r}")
        return text

    def make_indices(self) -> dict[str, str]:
        """Alias that was written to → alias that is written to now."""
        names = {}
        connection = self.connection()
        for number, (path, body) in enumerate(self.recorded.indices):
            document = json.loads(body)
            before = next(iter(document["aliases"]))
            after = f"{PREFIX}-{self.rounds}-{number}"
            document["aliases"] = {f"{after}.alias": {}}
            self.ask(connection, "PUT", f"/{after}", json.dumps(document).encode(), JSON)
            names[before] = f"{after}.alias"
        return names

    def remove_indices(self) -> None:
        self.ask(self.connection(), "DELETE", f"/{PREFIX}-{self.rounds}-*", None, {})

    def run(self, refreshing: bool) -> float:
        """Seconds for all that was recorded. `refreshing`: with the refreshes that the indexer made before its positions moved."""
        self.rounds += 1
        names = self.make_indices()
        work: queue.Queue = queue.Queue()
        for number, (path, body) in enumerate(self.recorded.bulks):
            alias = re.match(r"/([^/]+)/_bulk", path)[1]
            refresh = refreshing and number in self.recorded.refreshed
            work.put((path.replace(alias, names[alias]), names[alias], body, refresh))
        failed: list[BaseException] = []

        def send() -> None:
            connection = self.connection()
            try:
                while not failed:
                    path, alias, body, refresh = work.get_nowait()
                    if json.loads(self.ask(connection, "POST", path, body, LINES)).get("errors"):
                        raise SystemExit("documents of a bare `_bulk` were refused")
                    if refresh:
                        self.ask(connection, "POST", f"/{alias}/_refresh", None, {})
            except queue.Empty:
                pass
            except BaseException as error:  # noqa: BLE001
                failed.append(error)

        begun = time.perf_counter()
        threads = [threading.Thread(target=send) for _ in range(CONNECTIONS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        connection = self.connection()
        for alias in names.values():
            self.ask(connection, "POST", f"/{alias}/_refresh", None, {})
        seconds = time.perf_counter() - begun
        if failed:
            raise SystemExit(f"bare `_bulk` failed: {failed[0]}")
        self.remove_indices()
        return seconds
