"""Tests of what decides whether a chaos run holds, and of what benchmarks share with it.

    .venv/bin/python e2e/chaos/tests.py

`make test` runs them (e2e/tests/e2e/tools.rs).
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import unittest
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bench"))

import common
from apart import SEARCH, apart, halves, keep_to
from back import EXCUSED_FOR_S, StepsBack, rows_of_index
from faults import Fault, all_of
from field import Field, Watcher
from load import OFFSETS_AT_ONCE, Acknowledged, ends_of, rows_of, together, united
from proxy import Proxy, content_length
from server import Down, Server
from servers import ALL, Servers
from stack import RECOMPUTE_EVERY, Run, verify

ROWS = "chaos__orders__0007-abc__rows__orders_7e2__1__00000000000000002048"
STATE = "chaos__orders__0007-abc__state"
LONG_AGO = 1.0


def told(*records: tuple[str, int, int, str]) -> Acknowledged:
    one = Acknowledged()
    for source, partition, offset, name in records:
        one.take((source, partition, offset), name)
    return one


class ApartTest(unittest.TestCase):
    def running(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
        self.addCleanup(process.communicate)
        return process

    def test_a_process_that_has_ended_is_passed_over(self) -> None:
        gone = subprocess.Popen([sys.executable, "-c", ""])
        gone.wait()
        keep_to([gone.pid, os.getpid()], os.sched_getaffinity(0))

    def test_servers_that_ended_or_began_meanwhile_leave_nobody_on_half_of_the_processors(self) -> None:
        processors = os.sched_getaffinity(0)
        search, rest = halves() or (processors, processors)
        listed: dict[str, list[int]] = {name: [self.running().pid] for name in ALL}

        def processes(name: str) -> list[int]:
            if name not in listed:
                raise FileNotFoundError(name)
            return listed[name]

        with apart(SimpleNamespace(processes=processes), search, rest):
            self.assertEqual(os.sched_getaffinity(0), rest)
            self.assertEqual(os.sched_getaffinity(listed[SEARCH][0]), search)
            again = self.running().pid
            self.assertEqual(os.sched_getaffinity(again), rest)
            listed["kafka"] = [again]
            del listed["s3"]
        for process in [0, again, listed[SEARCH][0]]:
            self.assertEqual(os.sched_getaffinity(process), processors)


class StepsBackTest(unittest.TestCase):
    def test_an_index_names_what_it_holds(self) -> None:
        self.assertEqual(rows_of_index(ROWS), ("orders~2/1", 2048))
        self.assertEqual(rows_of_index(STATE), (None, 0))

    def test_only_what_the_index_held_may_step_back(self) -> None:
        steps = StepsBack()
        steps.begin()
        steps.take(ROWS)
        for table, partition, position, excused in [
            ("merged.orders", "orders~2/1", 2048, True),
            ("live.orders", "orders~2/1", 3000, True),
            ("merged.orders", "orders~2/1", 2047, False),
            ("merged.orders", "orders~2/0", 2048, False),
            ("merged.orders", "orders/1", 2048, False),
            ("batch.orders", "orders~2/1", 2048, False),
        ]:
            self.assertEqual(steps.excuse(table, partition, position, LONG_AGO), excused, (table, partition, position))

    def test_a_view_that_is_gone_excuses_all_its_partitions(self) -> None:
        steps = StepsBack()
        steps.begin()
        steps.take(STATE)
        self.assertTrue(steps.excuse("merged.orders", "orders/3", 0, LONG_AGO))
        self.assertFalse(steps.excuse("batch.orders", "orders/3", 0, LONG_AGO))

    def test_what_was_asked_for_after_everybody_had_noticed_is_not_excused(self) -> None:
        steps = StepsBack()
        steps.begin()
        steps.end(100.0)
        noticed = 100.0 + EXCUSED_FOR_S
        self.assertTrue(steps.excuse("merged.orders", "orders/0", 5, noticed))
        self.assertFalse(steps.excuse("merged.orders", "orders/0", 5, noticed + 0.1))
        # the end of a fault that takes no index changes nothing
        steps.end(200.0)
        self.assertFalse(steps.excuse("merged.orders", "orders/0", 5, noticed + 0.1))

    def test_no_other_fault_takes_an_index(self) -> None:
        with self.assertRaises(AssertionError):
            StepsBack().take(ROWS)
        field = SimpleNamespace(disk=SimpleNamespace(works=True), ours=SimpleNamespace(names=["serving"]))
        excused = {fault.kind for fault in all_of(field) if fault.steps_back}
        self.assertEqual(excused, {"opensearch newest index deleted", "opensearch index deleted", "opensearch view deleted"})


class WatcherTest(unittest.TestCase):
    """Positions in the order in which they are answered."""

    def watched(self, steps: StepsBack, *answers: tuple[str, int, float]) -> list[str]:
        field = Field.__new__(Field)
        field.fault, field.back, field.problems, field.steps_back = "kafka killed", {}, [], steps
        field.counting = threading.Lock()
        field.ours = SimpleNamespace(door=None)
        with tempfile.TemporaryDirectory() as folder:
            watcher = Watcher(field, Path(folder) / "answers.ndjson", 1)
            for table, end, asked in answers:
                as_of = {"orders": {"positions": {"orders/0": end}}}
                watcher.take({"sql": f"SELECT count(*) FROM {table}", "as_of": as_of}, asked)
        return field.problems

    def test_each_table_goes_forward_by_itself(self) -> None:
        answers = [("merged.orders", 9, 1.0), ("batch.orders", 4, 2.0), ("merged.orders", 9, 3.0), ("batch.orders", 5, 4.0)]
        self.assertEqual(self.watched(StepsBack(), *answers), [])
        self.assertEqual(len(self.watched(StepsBack(), *answers, ("merged.orders", 8, 5.0))), 1)

    def test_a_step_back_counts_for_the_time_between_two_answers(self) -> None:
        steps = StepsBack()
        steps.begin()
        steps.end(100.0)
        noticed = 100.0 + EXCUSED_FOR_S
        late = [("merged.orders", 9, noticed), ("merged.orders", 8, noticed + 50)]
        self.assertEqual(self.watched(steps, *late), [], "the fault was there when the first of them was asked for")
        later = [("merged.orders", 9, noticed + 1), ("merged.orders", 8, noticed + 2)]
        self.assertEqual(len(self.watched(steps, *later)), 1)


class BooksTest(unittest.TestCase):
    def test_ends_are_those_of_all_producers(self) -> None:
        all_told = [told(("orders", 0, 4, "a"), ("orders", 0, 2, "b")), told(("orders", 0, 7, "c"), ("orders~2", 1, 0, "d"))]
        self.assertEqual(ends_of(all_told), {"orders/0": 8, "orders~2/1": 1})
        records, problems = together(all_told)
        self.assertEqual((len(records), problems), (4, []))

    def test_no_position_is_given_twice(self) -> None:
        with self.assertRaises(AssertionError):
            told(("orders", 0, 4, "a"), ("orders", 0, 4, "b"))
        _, problems = together([told(("orders", 0, 4, "a")), told(("orders", 0, 4, "b"))])
        self.assertEqual(len(problems), 1)

    def test_what_two_faults_took_may_be_one_range(self) -> None:
        for ranges, one in [
            ([], []),
            ([(5, 9), (0, 2)], [(0, 2), (5, 9)]),
            ([(3, 5), (0, 3)], [(0, 5)]),
            ([(0, 9), (2, 4), (8, 12)], [(0, 12)]),
        ]:
            self.assertEqual(united(ranges), one, ranges)


class VerdictTest(unittest.TestCase):
    """Records 0 to 7 were acknowledged; the log lost 2 to 5 by two faults."""

    def verified(self, there: list[int], lost: list[list[int]]) -> tuple[dict[str, int], list[str]]:
        def sql(statement: str, **_: object) -> dict:
            if "GROUP BY" in statement:
                return {"rows": [["orders", 0, min(there), max(there)]]}
            if "id" in statement:
                return {"rows": [[offset, f"r-{offset}"] for offset in there]}
            return {"as_of": {"orders": {"lost": {"orders/0": lost}}}}

        acknowledged = [told(*(("orders", 0, offset, f"r-{offset}") for offset in range(8)))]
        field = SimpleNamespace(
            problems=[], taken={"orders/0": [(2, 4), (4, 6)]}, producers=[], ours=SimpleNamespace(door=SimpleNamespace(sql=sql)),
            acknowledged=lambda: acknowledged, ends=lambda: ends_of(acknowledged), answered=lambda *_: 0.0,
            direct=SimpleNamespace(undecided=set(), aborts=0),
        )
        with contextlib.redirect_stdout(io.StringIO()):
            return verify(field), field.problems

    def test_what_a_fault_took_is_lost_by_name_and_nothing_else(self) -> None:
        counts, problems = self.verified([0, 1, 6, 7], [[2, 6]])
        self.assertEqual((counts["taken from the log, and named as lost"], counts["lost"], problems), (4, 0, []))
        for there, lost, problem in [
            ([0, 1, 6, 7], [[2, 4]], "no answer says so"),
            ([0, 1, 6], [[2, 6]], "is not there"),
            ([0, 1, 6, 7], [[2, 7]], "nothing took them"),
            ([0, 1, 6, 7, 8], [[2, 6]], "nobody has produced"),
            ([0, 1, 1, 6, 7], [[2, 6]], "is there twice"),
        ]:
            _, problems = self.verified(there, lost)
            self.assertTrue(any(problem in found for found in problems), (there, lost, problems))


class RunTest(unittest.TestCase):
    def run_of(self, **more: object) -> Run:
        field = SimpleNamespace(
            fault="", problems=[], steps_back=StepsBack(), direct=SimpleNamespace(calm=threading.Event()), log_marks=dict,
            recovered=lambda since: (0.1, 0.2), logs_say_since=lambda marks: True, standing=str,
            ours=SimpleNamespace(ended=dict, start=lambda name: None),
        )
        vars(field).update(more)
        return Run(field, SimpleNamespace(run=lambda: None), SimpleNamespace(once=lambda: None))

    def played(self, run: Run, **how: object) -> bool:
        with contextlib.redirect_stdout(io.StringIO()):
            return run.fault(Fault("a fault", **{"inject": lambda field: 0.0, **how}))

    def test_positions_may_step_back_from_a_fault_that_says_so_until_it_was_noticed(self) -> None:
        for steps_back in (False, True):
            run, seen = self.run_of(), []
            inject = lambda field: seen.extend(step.until for step in field.steps_back.all) or 0.0  # noqa: E731, B023
            self.assertTrue(self.played(run, inject=inject, steps_back=steps_back))
            self.assertEqual(seen, [math.inf] if steps_back else [])
            self.assertTrue(all(step.until < math.inf for step in run.field.steps_back.all))

    def test_a_recompute_that_fails_ends_no_run(self) -> None:
        def fails() -> None:
            raise AssertionError("recompute failed")

        run = self.run_of()
        run.count, run.recomputer.once = RECOMPUTE_EVERY - 1, fails
        self.assertTrue(self.played(run))
        self.assertEqual(run.field.problems, [f"a recompute ({RECOMPUTE_EVERY}): AssertionError('recompute failed')"])

    def test_a_process_that_ended_by_itself_is_a_problem_and_started_again(self) -> None:
        started = []
        run = self.run_of(ours=SimpleNamespace(ended=lambda: {"batch": 1}, start=started.append))
        self.assertTrue(self.played(run))
        self.assertEqual((started, run.field.problems), (["batch"], ["a fault (1): batch ended by itself with 1"]))

        def fails(name: str) -> None:
            raise SystemExit("not ready")

        run = self.run_of(ours=SimpleNamespace(ended=lambda: {"batch": 1}, start=fails))
        self.assertFalse(self.played(run))
        self.assertEqual(len(run.field.problems), 2)


class RowsTest(unittest.TestCase):
    def test_each_row_is_read_by_one_statement(self) -> None:
        last = 2 * OFFSETS_AT_ONCE + 1
        offsets = [3, OFFSETS_AT_ONCE + 2, OFFSETS_AT_ONCE + 3, last]

        def sql(statement: str, **_: object) -> dict:
            if "GROUP BY" in statement:
                return {"rows": [["orders", "0", "3", str(last)]]}
            start, end = (int(found) for found in re.search(r">= (\d+) .*< (\d+)", statement).groups())
            return {"rows": [[str(offset), f"r-{offset}"] for offset in offsets if start <= offset < end]}

        rows = rows_of(SimpleNamespace(sql=sql), {})
        self.assertEqual(rows, [(("orders", 0, offset), f"r-{offset}") for offset in offsets])


class ServersTest(unittest.TestCase):
    def test_a_platform_finds_servers_through_who_stands_in_between(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            servers = Servers(Path(folder) / "servers")
        servers.told = {
            "TIDEMARK_TEST_S3_ENDPOINT": "http://127.0.0.1:1", "TIDEMARK_TEST_KAFKA": "127.0.0.1:2",
            "TIDEMARK_TEST_POSTGRES_URL": "postgres://tidemark:3@127.0.0.1:3/tidemark",
            "TIDEMARK_TEST_OPENSEARCH_URL": "http://127.0.0.1:4",
            "AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "key", "AWS_REGION": "region",
        }
        straight = {
            "AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "key", "AWS_REGION": "region",
            "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1", "TIDEMARK_STORE_URL": "s3://tidemark/x",
            "TIDEMARK_CATALOG_URL": "postgres://tidemark:3@127.0.0.1:3/tidemark", "TIDEMARK_LOG_URL": "kafka://127.0.0.1:2",
            "TIDEMARK_LIVE_URL": "opensearch+http://127.0.0.1:4/x",
        }
        self.assertEqual(servers.environment("x"), straight)
        through = servers.environment("x", through={"postgres": 30, "opensearch": 40})
        changed = {
            "TIDEMARK_CATALOG_URL": "postgres://tidemark:3@127.0.0.1:30/tidemark",
            "TIDEMARK_LIVE_URL": "opensearch+http://127.0.0.1:40/x",
        }
        self.assertEqual(through, straight | changed)

    def test_nobody_is_asked_at_the_port_of_a_process_that_was_killed(self) -> None:
        server = Server(Path("tidemark"), Path("data"), [])
        server.address = ("127.0.0.1", 9)
        server.process = SimpleNamespace(send_signal=lambda _: None, wait=lambda: None)
        server.kill()
        with self.assertRaisesRegex(Down, "not started yet"):
            server.ask("GET", "/readyz")

    def test_a_proxy_that_refused_listens_at_its_port_again(self) -> None:
        proxy = Proxy()
        self.addCleanup(proxy.process.stdout.close)
        self.addCleanup(proxy.stop)
        server = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(server.close)
        port = proxy.tell("kafka", to=server.getsockname())
        proxy.tell("kafka", mode="refuse")
        # somebody has it for a while
        other = socket.socket()
        other.bind(("127.0.0.1", port))
        other.listen()
        timer = threading.Timer(0.3, other.close)
        timer.start()
        self.assertEqual(proxy.tell("kafka", mode="pass"), port)
        timer.join()
        socket.create_connection(("127.0.0.1", port), 5).close()

    def test_a_head_tells_how_long_its_body_is(self) -> None:
        for head, length in [
            (b"POST /_bulk HTTP/1.1\r\nContent-Length: 12\r\n\r\n", 12),
            (b"POST / HTTP/1.1\r\nhost: a:1\r\ncontent-length:7\r\n\r\n", 7),
            (b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", 0),
        ]:
            self.assertEqual(content_length(head), length, head)


class AnswersTest(unittest.TestCase):
    def test_a_benchmark_ends_where_answers_differ(self) -> None:
        for ours, theirs, equal in [
            ([["a", 1.0]], [["a", 1.0 + 1e-12]], True),
            ([["1.50", None]], [[1.5, None]], True),
            ([["a", 1.0]], [["a", 1.001]], False),
            ([[None]], [["None"]], False),
            ([["a"], ["b"]], [["b"], ["a"]], False),
            ([["a"]], [["a"], ["a"]], False),
            ([["a", 1]], [["a"]], False),
        ]:
            try:
                common.compare("a question", ours, theirs, "theirs")
                fits = True
            except SystemExit:
                fits = False
            self.assertEqual(fits, equal, (ours, theirs))


if __name__ == "__main__":
    unittest.main()
