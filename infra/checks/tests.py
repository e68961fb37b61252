"""Tests of the rules of tidy.py that are patterns. `make test` runs them (e2e/tests/e2e/tools.rs)."""

from __future__ import annotations

import unittest

import tidy


class UnfinishedTest(unittest.TestCase):
    def test_waiting_by_time_is_found_under_any_name(self) -> None:
        for text, line in [
            ("std::thread::sleep(PAUSE);", 1),
            ("\ntokio::time::sleep(pause).await;", 2),
            ("std::thread::park_timeout(PAUSE);", 1),
            ("let _e = timeout(PAUSE, pending::<()>()).await;", 1),
            ("{\n    let _e = tokio::time::timeout(\n        PAUSE,\n        std::future::pending::<()>(),\n    );\n", 2),
            ("let _n = never.recv_timeout(PAUSE);", 1),
        ]:
            self.assertEqual(tidy.unfinished(text, may_wait=False), [f"line {line}: {tidy.WAITING}"], text)
            self.assertEqual(tidy.unfinished(text, may_wait=True), [], text)

    def test_a_limit_on_what_may_come_is_no_waiting_by_time(self) -> None:
        for text in [
            "std::future::pending::<()>().await;",
            "timeout(PATIENCE, receiver).await;\npending::<()>().await;",
            "ready.recv_timeout(PATIENCE)",
            "self.told.wait_timeout_while(settled, at_most, unsettled)",
        ]:
            self.assertEqual(tidy.unfinished(text, may_wait=False), [], text)

    def test_what_begins_a_line_is_found_on_any(self) -> None:
        # in parts, for this file is looked at, too
        for text in ["    #[" + "ignore]", "#![" + "allow(dead_code)]"]:
            self.assertEqual(len(tidy.unfinished(f"fn a() {{}}\n{text}\n", may_wait=True)), 1, text)
            self.assertEqual(tidy.unfinished(f'let text = "{text}";', may_wait=True), [], text)


if __name__ == "__main__":
    unittest.main()
