"""A TCP proxy between a platform and its servers that can be told to misbehave. Standard library only.

It runs as a process of its own and takes commands as JSON lines on standard input, each answered by one on standard output:

    {"route": "kafka", "to": ["127.0.0.1", 9092]}      where connections go on to; answers the port that it listens on
    {"route": "kafka", "mode": "delay", "delay_s": 0.2}

| mode | what happens to connections |
| --- | --- |
| `pass` | nothing |
| `delay` | what goes through waits so long, in either direction |
| `cut` | nothing goes through any more and nobody is told, as where a cable is pulled |
| `reset` | they end by a reset, new ones soon after they were made |
| `refuse` | they end, and no new one is taken |
| `answer` | requests by HTTP whose first line holds `match` are answered with `status` and `body`; others go through |
"""

from __future__ import annotations

import asyncio
import json
import random
import socket
import struct
import subprocess
import sys

CHUNK_BYTES = 64 << 10
HEAD_BYTES_MAX = 64 << 10
#: A new connection lives for so long at most while they are reset.
RESET_AFTER_S = 0.3
COMMAND_WITHIN_S = 10


class Route:
    """One listener, and where its connections go on to."""

    def __init__(self) -> None:
        self.to: tuple[str, int] | None = None
        self.port = 0
        self.how: dict = {"mode": "pass"}
        self.server: asyncio.AbstractServer | None = None
        self.writers: set[asyncio.StreamWriter] = set()
        self.flows = asyncio.Event()
        self.flows.set()

    async def listen(self) -> None:
        clock = asyncio.get_running_loop().time
        deadline = clock() + COMMAND_WITHIN_S
        while self.server is None:
            try:
                self.server = await asyncio.start_server(self.accept, "127.0.0.1", self.port, limit=HEAD_BYTES_MAX)
            except OSError:
                # while it refused, somebody's connection to elsewhere may have got its port
                if self.port == 0 or clock() > deadline:
                    raise
                await asyncio.sleep(0.1)
        self.port = self.server.sockets[0].getsockname()[1]

    async def behave(self, how: dict) -> None:
        self.how = how
        mode = how["mode"]
        self.flows.clear() if mode == "cut" else self.flows.set()
        if mode == "refuse" and self.server is not None:
            self.server.close()
            self.server = None
        elif mode != "refuse":
            await self.listen()
        # connections that were cut are of no use to anybody any more; those that were slow are
        if mode in ("reset", "refuse", "answer") or how.get("afresh"):
            self.reset_all()

    def reset_all(self) -> None:
        for writer in list(self.writers):
            reset(writer)

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.add(writer)
        try:
            if self.how["mode"] == "reset":
                asyncio.get_running_loop().call_later(random.uniform(0, RESET_AFTER_S), reset, writer)
            head = b""
            if self.how["mode"] == "answer":
                head = await reader.readuntil(b"\r\n\r\n")
                if self.how.get("match", "").encode() in head.split(b"\r\n", 1)[0]:
                    await self.answer(reader, writer, head)
                    return
            await self.through(reader, writer, head)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            reset(writer)
        finally:
            self.writers.discard(writer)
            writer.close()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> None:
        size = content_length(head)
        while size > 0:
            read = await reader.read(min(size, CHUNK_BYTES))
            if not read:
                return
            size -= len(read)
        body = self.how["body"].encode()
        kind = self.how.get("content_type", "application/json")
        writer.write(
            f"HTTP/1.1 {self.how['status']} Refused\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n"
            "connection: close\r\n\r\n".encode() + body
        )
        await writer.drain()

    async def through(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> None:
        await self.flows.wait()
        far_reader, far_writer = await asyncio.open_connection(*self.to)
        self.writers.add(far_writer)
        try:
            far_writer.write(head)
            await asyncio.gather(self.pump(reader, far_writer), self.pump(far_reader, writer))
        finally:
            self.writers.discard(far_writer)
            far_writer.close()

    async def pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK_BYTES):
            if self.how["mode"] == "delay":
                await asyncio.sleep(self.how["delay_s"])
            await self.flows.wait()
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()


def content_length(head: bytes) -> int:
    """Bytes of the body after the head of an HTTP message."""
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            return int(line.split(b":", 1)[1])
    return 0


def reset(writer: asyncio.StreamWriter) -> None:
    """Ends a connection so that the other side is told of no orderly end."""
    raw = writer.get_extra_info("socket")
    if raw is not None and raw.fileno() >= 0:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def serve() -> None:
    routes: dict[str, Route] = {}
    loop = asyncio.get_running_loop()
    commands = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    # ends with who started it
    while line := await commands.readline():
        command = json.loads(line)
        route = routes.setdefault(command["route"], Route())
        if "to" in command:
            route.to = tuple(command["to"])
            await route.listen()
        if "mode" in command:
            await route.behave(command)
        print(json.dumps({"port": route.port}), flush=True)


class Proxy:
    """The process, from outside."""

    def __init__(self) -> None:
        command = [sys.executable, __file__]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def tell(self, route: str, **command: object) -> int:
        """The port of the route."""
        print(json.dumps({"route": route, **command}), file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit("the proxy has ended")
        return json.loads(answer)["port"]

    def stop(self) -> None:
        self.process.stdin.close()
        self.process.wait(COMMAND_WITHIN_S)


if __name__ == "__main__":
    asyncio.run(serve())
