"""The real servers that `infra/servers` starts: S3, PostgreSQL, Kafka and OpenSearch, on a scratch folder, as plain processes.
Standard library only."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "infra" / "servers"
ALL = ("s3", "postgres", "kafka", "opensearch")
#: A first start builds or fetches what is not there yet.
FIRST_START_WITHIN_S = 1_200
START_WITHIN_S = 240
#: A server that was killed may find what it left behind in its way once or twice.
STARTS_MAX = 5


class Servers:
    """Who runs on a folder, and where."""

    def __init__(self, data: Path, env: dict[str, str] | None = None) -> None:
        self.data = data
        data.mkdir(parents=True, exist_ok=True)
        # The user that PostgreSQL runs as must get through.
        for folder in (data, data.parent):
            folder.chmod(0o711)
        # Only plain processes have ids by which they can be stopped.
        self.env = {**os.environ, "TIDEMARK_DOCKER": "no", **(env or {})}
        self.told: dict[str, str] = {}

    def up(self, *names: str, within_s: float = FIRST_START_WITHIN_S) -> None:
        for attempt in range(1, STARTS_MAX + 1):
            command = [str(SCRIPTS / "up.sh"), "--data", str(self.data), *names]
            ended = subprocess.run(command, env=self.env, stdout=subprocess.PIPE, text=True, timeout=within_s)
            if ended.returncode == 0:
                break
            if attempt == STARTS_MAX:
                raise SystemExit(f"{' '.join(command)}: exit code {ended.returncode}")
        for line in ended.stdout.splitlines():
            words = shlex.split(line)
            if words[:1] == ["export"]:
                self.told.update(word.split("=", 1) for word in words[1:])

    def down(self) -> None:
        subprocess.run([str(SCRIPTS / "down.sh"), "--data", str(self.data)], env=self.env, check=False)

    def address(self, name: str) -> tuple[str, int]:
        told = {
            "s3": "TIDEMARK_TEST_S3_ENDPOINT",
            "postgres": "TIDEMARK_TEST_POSTGRES_URL",
            "kafka": "TIDEMARK_TEST_KAFKA",
            "opensearch": "TIDEMARK_TEST_OPENSEARCH_URL",
        }[name]
        text = self.told[told]
        url = urlsplit(text if "://" in text else f"any://{text}")
        return url.hostname, url.port

    def environment(self, name: str, through: dict[str, int] | None = None) -> dict[str, str]:
        """How a platform finds them whose things in them are called `name`; `through`: ports of who stands in between, by server."""
        at = {server: "{}:{}".format(*self.address(server)) for server in ALL}
        postgres = self.told["TIDEMARK_TEST_POSTGRES_URL"]
        own = at["postgres"]
        at |= {server: f"127.0.0.1:{port}" for server, port in (through or {}).items()}
        keys = {key: self.told[key] for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION")}
        return {
            **keys,
            "AWS_ENDPOINT_URL_S3": f"http://{at['s3']}",
            "TIDEMARK_STORE_URL": f"s3://tidemark/{name}",
            "TIDEMARK_CATALOG_URL": postgres.replace(f"@{own}/", f"@{at['postgres']}/"),
            "TIDEMARK_LOG_URL": f"kafka://{at['kafka']}",
            "TIDEMARK_LIVE_URL": f"opensearch+http://{at['opensearch']}/{name}",
        }

    def kill(self, name: str) -> None:
        subprocess.run([str(SCRIPTS / "kill.sh"), "--data", str(self.data), name], env=self.env, check=True)

    def start_again(self, name: str) -> None:
        self.up(name, within_s=START_WITHIN_S)

    def processes(self, name: str) -> list[int]:
        """Its process, and all that come from it."""
        first = int((self.data / f"{name}.pid").read_text())
        parents: dict[int, list[int]] = {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            parents.setdefault(int(fields[1]), []).append(int(stat.parent.name))
        found, left = [], [first]
        while left:
            found.append(left.pop())
            left += parents.get(found[-1], [])
        return found

    def signal(self, name: str, number: signal.Signals) -> None:
        for process in self.processes(name):
            try:
                os.kill(process, number)
            except ProcessLookupError:
                pass

    def end(self, name: str, number: signal.Signals, within_s: float = 60) -> None:
        """Asks it to end, and waits until it has."""
        process = int((self.data / f"{name}.pid").read_text())
        os.kill(process, number)
        deadline = time.monotonic() + within_s
        while command_of(process):
            if time.monotonic() > deadline:
                raise SystemExit(f"{name} does not end within {within_s} s")
            time.sleep(0.05)
        (self.data / f"{name}.pid").unlink(missing_ok=True)

    def resident_mb(self, name: str) -> float:
        return sum(resident_mb(process) for process in self.processes(name))


def command_of(process: int) -> str:
    """Empty if it has ended, though nobody may have taken note of it yet."""
    try:
        return Path(f"/proc/{process}/cmdline").read_text()
    except OSError:
        return ""


def resident_mb(process: int) -> float:
    """Memory that a process has in RAM; 0 if it is gone."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) * 1024 / 1e6 for line in status.splitlines() if line.startswith("VmRSS")), 0.0)
