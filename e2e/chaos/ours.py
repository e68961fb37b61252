"""Our own processes on real servers: one with all roles, or one a role. Standard library only."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from server import Down, Refused, Server

ROLES = ("archiver", "indexer", "batch", "serving")
#: The name of a process that has all roles.
WHOLE = "process"
#: The role with the door that records and questions come by.
DOOR = "serving"


class Ours:
    """The processes, by name."""

    def __init__(self, binary: Path, work: Path, flags: list[str], env: dict[str, str], roles: tuple[str, ...] = ()) -> None:
        if roles:
            self.all = {role: Server(binary, work / role, [*flags, "--role", role], env) for role in roles}
        else:
            self.all = {WHOLE: Server(binary, work / WHOLE, flags, env)}

    @property
    def door(self) -> Server:
        return self.all.get(DOOR) or self.all[WHOLE]

    @property
    def names(self) -> list[str]:
        return list(self.all)

    def start(self, *names: str, within_s: float = 120) -> None:
        chosen = [self.all[name] for name in names or self.all]
        for server in chosen:
            server.begin()
        for server in chosen:
            server.wait_ready(within_s)

    def kill(self, *names: str) -> None:
        for name in names or self.all:
            self.all[name].kill()

    def signal(self, name: str, number: signal.Signals) -> None:
        os.kill(self.all[name].process.pid, number)

    def stop(self, within_s: float = 60) -> dict[str, int]:
        """Their exit codes. The door goes first: it takes no more records for the others."""
        order = sorted(self.all, key=lambda name: name != DOOR)
        return {name: self.all[name].stop(within_s) for name in order if self.all[name].process is not None}

    def ended(self) -> dict[str, int]:
        """Those that ended by themselves."""
        codes = {name: server.process.poll() for name, server in self.all.items() if server.process is not None}
        return {name: code for name, code in codes.items() if code is not None}

    def clean_up(self) -> None:
        for server in self.all.values():
            if server.process is not None and server.process.poll() is None:
                # one that is stopped hears nothing else
                server.process.kill()
                server.process.wait()


def dataset_status(server: Server, dataset: str) -> dict | None:
    """How a dataset's stream stands, if its process tells."""
    try:
        status = server.ask("GET", "/v1/status", timeout_s=20)
    except (Down, Refused):
        return None
    return next((found for found in status["datasets"] if found["dataset"] == dataset), None)


def until(what: str, within_s: float, holds, pause_s: float = 0.05):
    """What `holds` tells first that is true; nobody announces it, so it is looked for."""
    deadline = time.monotonic() + within_s
    while True:
        found = holds()
        if found:
            return found
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {within_s:.0f} s")
        time.sleep(pause_s)
