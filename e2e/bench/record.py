"""Stands between Tidemark and OpenSearch and keeps what is written: the indices that are made, the bodies of `_bulk`, and which
of them a refresh followed. So a bare client can send the very same. Standard library only."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, field

from proxy import content_length

READ_BYTES = 256 << 10
HEAD_BYTES_MAX = 64 << 10


@dataclass
class Recorded:
    """What was written, in order."""

    #: Path and body of each index that was made.
    indices: list[tuple[str, bytes]] = field(default_factory=list)
    #: Path and body of each `_bulk`.
    bulks: list[tuple[str, bytes]] = field(default_factory=list)
    documents: int = 0
    #: The places in `bulks` after which their index was refreshed.
    refreshed: set[int] = field(default_factory=set)
    #: Where in `bulks` the last one of each alias is.
    last: dict[str, int] = field(default_factory=dict)

    def take(self, method: str, path: str, body: bytes) -> None:
        alias = path.split("/")[1]
        if method == "POST" and "/_bulk" in path:
            self.last[alias] = len(self.bulks)
            self.bulks.append((path, body))
            # an action and a document, a line each
            self.documents += body.count(b"\n") // 2
        elif method == "POST" and path.endswith("/_refresh") and alias in self.last:
            self.refreshed.add(self.last[alias])
        elif method == "PUT" and "__rows__" in path and path.count("/") == 1:
            self.indices.append((path, body))


class Recorder:
    """The proxy, on a thread of its own."""

    def __init__(self, host: str, port: int) -> None:
        self.to, self.recorded = (host, port), Recorded()
        self.port = 0
        self.loop = asyncio.new_event_loop()
        self.listening = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()
        if not self.listening.wait(10):
            raise SystemExit("the recorder does not listen")

    def _run(self) -> None:
        self.loop.run_until_complete(self._listen())
        self.loop.run_forever()

    async def _listen(self) -> None:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=HEAD_BYTES_MAX)
        self.port = server.sockets[0].getsockname()[1]
        self.listening.set()

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(*self.to)
        answers = asyncio.ensure_future(self._answers(far_reader, writer))
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                far_writer.write(head)
                size, body = content_length(head), bytearray()
                while len(body) < size:
                    read = await reader.read(min(READ_BYTES, size - len(body)))
                    if not read:
                        return
                    body += read
                    far_writer.write(read)
                    await far_writer.drain()
                method, path, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
                self.recorded.take(method, path, bytes(body))
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            far_writer.close()
            answers.cancel()
            writer.close()

    async def _answers(self, far_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await far_reader.read(READ_BYTES):
            writer.write(data)
            await writer.drain()
        writer.close()
