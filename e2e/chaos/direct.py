"""Who produces past our door: librdkafka's Python client, straight into Kafka. What it aborts must never be seen."""

from __future__ import annotations

import contextlib
import json
import random
import threading
import time
from collections.abc import Iterator

from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic
from load import Acknowledged, order
from server import Stopper

#: Until then librdkafka sends a record again; no fault lasts so long.
DELIVERY_WITHIN_S = 300
ADMIN_WITHIN_S = 60
ABORTED = "aborted"


def quiet(config: dict) -> dict:
    # a refused connection is what is looked for here, and no news
    return {**config, "log_level": 0, "allow.auto.create.topics": False, "reconnect.backoff.max.ms": 1000}


class DirectProducer:
    """Produces orders idempotently, and some in transactions that it aborts."""

    def __init__(self, brokers: str, topic: str, seed: int) -> None:
        self.brokers, self.topic, self.random = brokers, topic, random.Random(seed)
        self.acknowledged = Acknowledged()
        #: Ids of records of which nobody knows whether they are there.
        self.undecided: set[str] = set()
        self.source = topic
        self.sent = 0
        #: Held while it produces: who has it knows that nothing is sent, and that no transaction is under way.
        self.turn = threading.Lock()
        #: Set while no fault is under way: a transaction that nobody ends keeps readers waiting.
        self.calm = threading.Event()
        self.aborts = 0
        self.open()

    def open(self) -> None:
        self.client = Producer(quiet({
            "bootstrap.servers": self.brokers,
            "enable.idempotence": True,
            "partitioner": "murmur2_random",
            "linger.ms": 5,
            "message.timeout.ms": DELIVERY_WITHIN_S * 1000,
            "topic.metadata.refresh.interval.ms": 1000,
        }))

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """Without a client meanwhile: its requests for metadata make a topic that is not there. For who has the turn."""
        del self.client
        try:
            yield
        finally:
            self.open()

    def run(self, stop: Stopper, rate: float) -> None:
        rounds = 0
        while not stop.done:
            count = self.random.randint(1, 50)
            with self.turn:
                for _ in range(count):
                    self.send()
                self.client.poll(0)
                rounds += 1
                if rounds % 40 == 0 and self.calm.is_set():
                    self.abort_some()
            stop.event.wait(count / rate)

    def send(self) -> None:
        self.sent += 1
        name, source = f"direct-{self.sent}", self.source
        self.undecided.add(name)

        def delivered(error: object, message: object) -> None:
            if error is not None:
                return
            self.undecided.discard(name)
            self.acknowledged.take((source, message.partition(), message.offset()), name)

        value = json.dumps(order(self.random, name))
        while True:
            try:
                self.client.produce(self.topic, value, key=name, headers={"by": "python"}, on_delivery=delivered)
                return
            except BufferError:
                self.client.poll(0.1)

    def abort_some(self) -> None:
        config = quiet({"bootstrap.servers": self.brokers, "transactional.id": "chaos", "transaction.timeout.ms": 5000})
        try:
            client = Producer(config)
            client.init_transactions(5)
            client.begin_transaction()
            for number in range(10):
                client.produce(self.topic, json.dumps(order(self.random, f"{ABORTED}-{self.aborts}-{number}")), key=str(number))
            client.flush(5)
            client.abort_transaction(5)
            self.aborts += 1
        except KafkaException:
            # a fault came in between; the broker aborts what nobody ends
            pass

    def settle(self, within_s: float = DELIVERY_WITHIN_S) -> None:
        """Waits until all that was sent is acknowledged, or known not to be."""
        left = self.client.flush(within_s)
        if left:
            raise TimeoutError(f"{left} records are not acknowledged by Kafka within {within_s} s")


class Topics:
    """What is done to topics by hand."""

    def __init__(self, brokers: str) -> None:
        self.admin = AdminClient(quiet({"bootstrap.servers": brokers}))

    def partitions(self, topic: str) -> int:
        """0: there is no such topic."""
        found = self.admin.list_topics(timeout=ADMIN_WITHIN_S).topics.get(topic)
        return len(found.partitions) if found is not None and found.error is None else 0

    def create(self, topic: str, partitions: int) -> None:
        self._done(self.admin.create_topics([NewTopic(topic, partitions, 1)]))

    def delete(self, topic: str) -> None:
        self._done(self.admin.delete_topics([topic]))
        deadline = time.monotonic() + ADMIN_WITHIN_S
        while self.partitions(topic):
            if time.monotonic() > deadline:
                raise TimeoutError(f"topic {topic} is still there")
            time.sleep(0.1)

    def add_partition(self, topic: str) -> int:
        count = self.partitions(topic) + 1
        self._done(self.admin.create_partitions([NewPartitions(topic, count)]))
        return count

    def delete_records(self, topic: str, ends: dict[int, int]) -> None:
        before = [TopicPartition(topic, partition, end) for partition, end in ends.items()]
        deadline = time.monotonic() + ADMIN_WITHIN_S
        while True:
            try:
                self._done(self.admin.delete_records(before))
                return
            except KafkaException as error:
                # A partition that came a while ago is news to this client until it asks; those that it knew are done, and
                # may be done again.
                if error.args[0].code() != KafkaError._UNKNOWN_PARTITION or time.monotonic() > deadline:
                    raise
                self.partitions(topic)
                time.sleep(0.1)

    def _done(self, futures: dict) -> None:
        for future in futures.values():
            future.result(ADMIN_WITHIN_S)
