"""Attacks the HTTP door of a running `tidemark up` with requests that schemathesis makes of its own OpenAPI document.

    make fuzz-http MINUTES=2          or          .venv/bin/python e2e/http/fuzz.py --minutes 2

What counts as a failure: any 5xx that the document does not declare for the operation, any undeclared status, media type or
shape of an answer, a request that breaks the document and is taken all the same, and a process that is not as healthy
afterwards as before. Ends with schemathesis' exit code, or 1.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.request import urlopen

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "e2e" / "chaos"))

from server import Refused, Server, tidemark  # noqa: E402

#: A request that is in order for the document need not be one that can be met: random text is no SQL.
EXCLUDED = "positive_data_acceptance"
ORDERS = [{"id": f"o-{n}", "cents": n, "at": "2026-11-24T10:00:00Z", "country": "NL"} for n in range(500)]
TRIPS = [{"tpep_pickup_datetime": f"2026-11-24 10:00:{n:02}", "fare_amount": "7.50"} for n in range(60)]


def prepare(data: Path, binary: Path) -> Server:
    flags = ["--batch-interval", "5s", "--timeout", "5s", "--body-bytes-max", "1MiB", "--memory", "256MiB"]
    server = Server(binary, data, flags)
    for dataset in ("orders", "trips"):
        server.run("dataset", "apply", str(ROOT / "datasets" / dataset))
    server.start()
    for dataset, records in (("orders", ORDERS), ("trips", TRIPS)):
        server.produce(dataset, records)
    return server


def fuzz(server: Server, minutes: float, seed: int | None, mode: str) -> int:
    """`all`: requests as schemathesis makes them. `positive`: such that keep to the document, with names and SQL that exist."""
    host, port = server.address
    command = [
        str(Path(sys.executable).parent / "schemathesis"), "run", f"http://{host}:{port}/openapi.json",
        "--mode", mode, "--checks", "all", "--exclude-checks", EXCLUDED, "--phases", "examples,coverage,fuzzing",
        "--max-time", str(max(1, int(minutes * 60))), "--continue-on-failure", "--request-timeout", "30",
        "--warnings", "off", "--suppress-health-check", "all", "--no-color",
    ]
    if seed is not None:
        command += ["--seed", str(seed)]
    environment = {**os.environ, "NO_PROXY": "*"}
    if mode == "positive":
        environment |= {"PYTHONPATH": str(Path(__file__).parent), "SCHEMATHESIS_HOOKS": "hooks"}
    # beside the data, so that what it keeps of examples goes with it
    return subprocess.run(command, cwd=server.data.parent, env=environment).returncode


def answered(server: Server) -> dict[tuple[str, str], int]:
    """Requests by route and status, as the process counted them."""
    with urlopen(f"http://{server.address[0]}:{server.address[1]}/metrics") as answer:
        text = answer.read().decode()
    counts: dict[tuple[str, str], int] = {}
    for labels, count in re.findall(r"^\w*requests_total\{(.*)\} (\d+)$", text, re.MULTILINE):
        named = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        key = (named["route"], named["status"])
        counts[key] = counts.get(key, 0) + int(count)
    return counts


def check_health(server: Server) -> list[str]:
    """What is not as it should be after the attack."""
    if server.process.poll() is not None:
        return [f"the process ended with {server.process.returncode}"]
    wrong = []
    counts = answered(server)
    for (route, status), count in sorted(counts.items()):
        print(f"  {count:>6}  {status}  {route}")
    # an attack that falls at the first check proves little
    for route in ("/v1/sql", "/v1/datasets/{dataset}/records", "/v1/datasets/{dataset}"):
        if counts.get((route, "200"), 0) < 10:
            wrong.append(f"hardly any request to {route} came through")
    status = server.ask("GET", "/v1/status")
    for name, task in status["tasks"].items():
        if task["restarts"] or task["error"]:
            wrong.append(f"task {name}: {json.dumps(task)}")
    count = server.sql("SELECT count(*) AS n FROM orders WHERE id LIKE 'o-%' AND cents < 500")["rows"][0][0]
    if count < len(ORDERS):
        wrong.append(f"{count} orders are left of {len(ORDERS)}")
    log = server.log.read_text(errors="replace")
    wrong += [line for line in log.splitlines() if "panicked at" in line]
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=2)
    parser.add_argument("--seed", type=int, help="repeats the requests of an earlier run")
    parser.add_argument("--tidemark", help="the binary")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tidemark-fuzz-http-") as folder:
        server = prepare(Path(folder) / "data", tidemark(arguments.tidemark, ROOT))
        try:
            modes = ("all", "positive")
            code = max(fuzz(server, arguments.minutes / len(modes), arguments.seed, mode) for mode in modes)
            try:
                wrong = check_health(server)
            except Refused as error:
                wrong = [str(error)]
            if not wrong and (stopped := server.stop()) != 0:
                wrong.append(f"asked to stop, it ended with {stopped}")
        finally:
            if server.process.poll() is None:
                server.kill()
    for line in wrong:
        print(f"wrong: {line}")
    print(f"fuzz-http: {'no finding' if code == 0 and not wrong else 'FAILED'}")
    sys.exit(code or (1 if wrong else 0))


if __name__ == "__main__":
    main()
