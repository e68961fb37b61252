"""A `tidemark up` under test: started, found, asked, killed. Standard library only."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

#: Generous: an audit of all answers that hours brought. One that hangs must not hang the run.
COMMAND_WITHIN_S = 7_200


class Down(Exception):
    """The server can't be reached, or went away while it answered."""


class Refused(Exception):
    """The server answered with an error."""

    def __init__(self, status: int, problem: dict) -> None:
        super().__init__(f"{status} {problem.get('code')}: {problem.get('detail')}")
        self.status = status
        self.code = problem.get("code", "")


class Server:
    """One data directory and the process that runs on it now; `env` names parts that are elsewhere."""

    def __init__(self, binary: Path, data: Path, flags: list[str], env: dict[str, str] | None = None) -> None:
        self.binary, self.data, self.flags = binary, data, flags
        self.env = {**os.environ, **(env or {})}
        self.process: subprocess.Popen | None = None
        self.address: tuple[str, int] | None = None
        self.log = data.parent / f"{data.name}.log"

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess:
        """A command beside the process; one that does not end is an error."""
        command = [str(self.binary), "--data-dir", str(self.data), *arguments]
        ended = subprocess.run(command, capture_output=True, text=True, env=self.env, timeout=COMMAND_WITHIN_S)
        if check and ended.returncode != 0:
            raise SystemExit(f"{' '.join(command)}: exit code {ended.returncode}\n{ended.stdout}\n{ended.stderr}")
        return ended

    def start(self, ready_within_s: float = 60) -> None:
        self.begin()
        self.wait_ready(ready_within_s)

    def begin(self) -> None:
        command = [str(self.binary), "--data-dir", str(self.data), "up", "--http", "127.0.0.1:0", *self.flags]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=self.env)

    def wait_ready(self, within_s: float = 60) -> None:
        deadline = time.monotonic() + within_s
        while True:
            if self.process.poll() is not None:
                raise SystemExit(f"`up` ended with {self.process.returncode}:\n{self.log.read_text()[-4000:]}")
            if self.is_ready():
                return
            if time.monotonic() > deadline:
                raise SystemExit(f"`up` is not ready after {within_s} s:\n{self.log.read_text()[-4000:]}")
            time.sleep(0.02)

    def is_ready(self) -> bool:
        try:
            endpoints = json.loads((self.data / "endpoints.json").read_text())
        except (OSError, ValueError):
            return False
        if endpoints["pid"] != self.process.pid:
            return False
        url = urlsplit(endpoints["http"])
        self.address = (url.hostname, url.port)
        try:
            self.ask("GET", "/readyz")
            return True
        except (Down, Refused):
            return False

    def kill(self) -> None:
        # the next one takes another port, and somebody else may have this one by then
        self.address = None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self, within_s: float = 60) -> int:
        """Asks it to drain and end."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=within_s)

    def ask(self, method: str, path: str, body: bytes | None = None, headers: dict | None = None, timeout_s: float = 60) -> dict:
        """One request on a connection of its own: a killed server must not be asked over an old one."""
        address = self.address
        if address is None:
            raise Down("not started yet")
        connection = http.client.HTTPConnection(*address, timeout=timeout_s)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise Down(str(error)) from error
        finally:
            connection.close()
        try:
            document = json.loads(text) if text else {}
        except ValueError as error:
            if answer.status < 300 and path in ("/healthz", "/readyz"):
                return {}
            # a body without its end is no answer
            raise Down(f"broken body: {error}") from error
        if answer.status >= 300:
            raise Refused(answer.status, document)
        return document

    def sql(self, statement: str, *, within_s: float = 60, **more: object) -> dict:
        body = json.dumps({"sql": statement, **more}).encode()
        return self.ask("POST", "/v1/sql", body, {"content-type": "application/json"}, within_s)

    def produce(self, dataset: str, records: list[dict], key: str | None = None) -> dict:
        body = b"".join(json.dumps(record).encode() + b"\n" for record in records)
        headers = {"content-type": "application/x-ndjson"}
        if key is not None:
            headers["idempotency-key"] = key
        return self.ask("POST", f"/v1/datasets/{dataset}/records", body, headers)


class Stopper:
    """Tells threads to end, and keeps the first thing that went wrong in one."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self.failure: BaseException | None = None

    def thread(self, work, *arguments: object) -> threading.Thread:
        def guarded() -> None:
            try:
                work(*arguments)
            except BaseException as error:  # noqa: BLE001
                self.failure = self.failure or error
                self.event.set()

        thread = threading.Thread(target=guarded, daemon=True)
        thread.start()
        return thread

    @property
    def done(self) -> bool:
        return self.event.is_set()


def tidemark(argument: str | None, root: Path) -> Path:
    target = Path(os.environ.get("CARGO_TARGET_DIR", root / "target"))
    return Path(argument) if argument else target / "debug" / "tidemark"
