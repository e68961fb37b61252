"""Tests of the rules of tidy.py that are patterns, and of where they hold. `make test` runs them (e2e/tests/e2e/tools.rs)."""

from __future__ import annotations

import tempfile
import unittest
from pathlib import Path
from unittest import mock

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


class PoisonedTest(unittest.TestCase):
    def test_who_takes_a_poisoned_lock_says_why(self) -> None:
        taken = "    self.state.lock().unwrap_or_else(PoisonError::into_inner)"
        for before in ["", "    let a = 1; // of another line", "fn state() {", taken]:
            self.assertIn(f"line 2: {tidy.UNREASONED}", tidy.poisoned([before, taken]), before)
        self.assertEqual(tidy.poisoned([taken]), [f"line 1: {tidy.UNREASONED}"])

    def test_a_reason_stands_on_the_line_before(self) -> None:
        taken = "    self.state.lock().unwrap_or_else(PoisonError::into_inner)"
        self.assertEqual(tidy.poisoned(["    // every change is one assignment", taken]), [])
        self.assertEqual(tidy.poisoned(["use std::sync::{Mutex, PoisonError};", "// PoisonError::into_inner"]), [])

    def test_only_the_one_way_to_take_it_needs_no_reason(self) -> None:
        text = "//! A lock.\nfn take() {\n    lock.lock().unwrap_or_else(PoisonError::into_inner)\n}\n"
        with tempfile.TemporaryDirectory() as folder, mock.patch.object(tidy, "ROOT", Path(folder)):
            for name in [tidy.POISON, Path("shared/src/lib.rs"), Path("shared/testing/src/poison.rs"), Path("e2e/a.rs")]:
                path = tidy.ROOT / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
                expected = [] if name == tidy.POISON else [f"line 3: {tidy.UNREASONED}"]
                self.assertEqual(tidy.problems(path), expected, name)


if __name__ == "__main__":
    unittest.main()
