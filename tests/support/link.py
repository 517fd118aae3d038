"""A wire between a client and a TCP server on this machine: length, width, and the ways a wire fails.

Loopback hides what a gateway is for. ``Link`` listens on a port of its own and relays to the server: bytes arrive half
a round trip later, each direction is one wire of limited rate that all connections share, and a new connection waits a
round trip for its handshake. While it runs, the wire can be cut (bytes stop, connections stay: a dead route), refused
(connections reset, nobody listens: a dead server), or set to reset connections after some bytes (a server that dies in
the middle of an answer); ``join`` mends all of it.

    with Link("http://127.0.0.1:5000", rtt_s=0.02, rate_bytes_per_s=125e6) as link:
        mount(endpoint_url=link.url); link.cut(); ...; link.join()

The relay runs in a thread; its methods may be called from any other, and have taken effect when they return. From a
shell: ``python -m tests.support.link --help``.
"""

import argparse
import asyncio
import contextlib
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

CHUNK_BYTES = 64 * 1024
UNDER_WAY_BYTES_MAX = 8 * 1024 * 1024
"""Per connection and direction; over this the sender is held up, as a full TCP window would."""
START_S_MAX = 10.0


@dataclass(frozen=True, slots=True)
class Traffic:
    """What went over a link since it was opened: payload bytes delivered, and connections accepted."""

    up_bytes: int
    down_bytes: int
    connections: int


class _Wire:
    """One direction: who is sending when, and how much has arrived."""

    def __init__(self) -> None:
        self.busy_until_s = 0.0
        self.delivered_bytes = 0

    def book(self, length: int, now_s: float, rate_bytes_per_s: float) -> float:
        """Take the wire for ``length`` bytes after everybody before us; returns when the last byte leaves it."""
        self.busy_until_s = max(self.busy_until_s, now_s)
        if rate_bytes_per_s:
            self.busy_until_s += length / rate_bytes_per_s
        return self.busy_until_s


class Link:
    """See the module. Rates of 0 mean as fast as this machine goes.

    Args:
        target: "http://host:port", "host:port" or a port of this machine.
        rtt_s: round trip.
        rate_bytes_per_s: of each direction.
        port: to listen on; 0 takes a free one.
    """

    def __init__(self, target: str | int, *, rtt_s: float = 0.0, rate_bytes_per_s: float = 0.0, port: int = 0) -> None:
        self._scheme, self._target = _address(target)
        self.port = port
        self.rtt_s = rtt_s
        self.rate_bytes_per_s = rate_bytes_per_s
        self._up, self._down = _Wire(), _Wire()
        self._connections = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._relays: set[asyncio.Task[None]] = set()
        self._reset_after_bytes: int | None = None
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._whole = asyncio.Event()
        self._whole.set()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"link to {target}", daemon=True)

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self.port}"

    @property
    def traffic(self) -> Traffic:
        return Traffic(self._up.delivered_bytes, self._down.delivered_bytes, self._connections)

    def cut(self) -> None:
        """Stop all bytes both ways; connections stay open, new ones are accepted and get no answer."""
        self._run(self._whole.clear)

    def refuse(self) -> None:
        """Reset every connection and refuse new ones."""
        self._run(self._stop_listening)
        self._run(self._reset_all)

    def reset(self) -> None:
        """Reset the connections of this moment; new ones are fine."""
        self._run(self._reset_all)

    def reset_after(self, down_bytes: int) -> None:
        """Once ``down_bytes`` more have gone to the clients, reset every connection that gets more, until ``join``."""

        def arm() -> None:
            self._reset_after_bytes = self._down.delivered_bytes + down_bytes

        self._run(arm)

    def lead_to(self, target: str | int) -> None:
        """Relay to another server from now on; the connections of this moment are reset."""

        def turn() -> None:
            self._scheme, self._target = _address(target)
            self._reset_all()

        self._run(turn)

    def join(self) -> None:
        """Mend whatever ``cut``, ``refuse`` or ``reset_after`` did."""

        async def mend() -> None:
            self._reset_after_bytes = None
            if self._server is None:
                await self._listen()
            self._whole.set()

        self._await(mend())

    def __enter__(self) -> Self:
        self._thread.start()
        self._await(self._listen())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        async def end() -> None:
            self._stop_listening()
            for relay in self._relays:
                relay.cancel()
            await asyncio.gather(*self._relays, return_exceptions=True)

        self._await(end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # ---- below: on the link's own thread

    def _run(self, action: Callable[[], None]) -> None:
        async def act() -> None:
            action()

        self._await(act())

    def _await(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(START_S_MAX)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, reuse_address=True)
        self.port = self._server.sockets[0].getsockname()[1]

    def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def _reset_all(self) -> None:
        for writer in list(self._writers):
            _reset(writer)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._relays.add(task)
        self._connections += 1
        self._writers.add(writer)
        try:
            await self._relay(reader, writer)
        except (OSError, asyncio.CancelledError):
            # Either end went away or the link closes: the other end must see the same. Swallowing the cancellation
            # is right here, since the task ends with this block.
            _reset(writer)
        finally:
            self._writers.discard(writer)
            self._relays.discard(task)
            writer.close()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._whole.wait()
        await asyncio.sleep(self.rtt_s)
        far_reader, far_writer = await asyncio.open_connection(*self._target)
        self._writers.add(far_writer)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._carry(self._up, reader, far_writer))
                both.create_task(self._carry(self._down, far_reader, writer))
        except* OSError:
            _reset(writer)
            _reset(far_writer)
        finally:
            self._writers.discard(far_writer)
            far_writer.close()

    async def _carry(self, wire: _Wire, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One direction of one connection: take bytes as they come, deliver each when its time has come."""
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(UNDER_WAY_BYTES_MAX // CHUNK_BYTES)
        async with asyncio.TaskGroup() as pair:
            pair.create_task(self._deliver(wire, under_way, writer))
            while data := await reader.read(CHUNK_BYTES):
                left_s = wire.book(len(data), self._loop.time(), self.rate_bytes_per_s)
                await under_way.put((left_s + self.rtt_s / 2, data))
            await under_way.put((self._loop.time() + self.rtt_s / 2, b""))

    async def _deliver(
        self, wire: _Wire, under_way: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter
    ) -> None:
        while True:
            due_s, data = await under_way.get()
            await asyncio.sleep(max(0.0, due_s - self._loop.time()))
            await self._whole.wait()
            if not data:
                if writer.can_write_eof():
                    writer.write_eof()
                return
            if wire is self._down and self._reset_after_bytes is not None:
                left = max(0, self._reset_after_bytes - wire.delivered_bytes)
                if left < len(data):
                    writer.write(data[:left])
                    wire.delivered_bytes += left
                    raise ConnectionResetError("as asked by reset_after")
            # Counted before it can be read, so that nobody reads bytes that are not counted yet.
            wire.delivered_bytes += len(data)
            writer.write(data)
            await writer.drain()


def _address(target: str | int) -> tuple[str, tuple[str, int]]:
    """Scheme, host and port of a target."""
    where = str(target)
    address = urlsplit(where if "//" in where else f"//{where}" if ":" in where else f"//127.0.0.1:{where}")
    if address.hostname is None or address.port is None:
        raise ValueError(f"no host:port in {target!r}")
    return address.scheme or "http", (address.hostname, address.port)


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST instead of FIN, so that the peer gets ECONNRESET and not an early end of data."""
    raw = writer.get_extra_info("socket")
    if raw is not None and raw.fileno() >= 0:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def main() -> int:
    """Relay until end of input or Ctrl-C; each line of input is a command."""
    parser = argparse.ArgumentParser(
        description="A link with a round trip and a rate in front of a TCP server.",
        epilog="Commands on standard input: cut, refuse, reset, reset-after BYTES, join, rtt MS, rate MBIT, traffic.",
    )
    parser.add_argument("target", help="http://host:port, host:port or a port of this machine")
    parser.add_argument("--port", type=int, default=0, help="to listen on (default: a free one)")
    parser.add_argument("--rtt-ms", type=float, default=20.0)
    parser.add_argument("--rate-mbit", type=float, default=1000.0, help="of each direction, 0 for no limit")
    arguments = parser.parse_args()
    rate = arguments.rate_mbit * 125_000
    with Link(arguments.target, rtt_s=arguments.rtt_ms / 1000, rate_bytes_per_s=rate, port=arguments.port) as link:
        print(link.url, flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            for line in sys.stdin:
                _obey(link, line.split())
            while True:  # no input, as under nohup: stay until told to stop
                time.sleep(3600)
    return 0


def _obey(link: Link, words: list[str]) -> None:
    match words:
        case ["cut" | "refuse" | "reset" | "join" as name]:
            getattr(link, name)()
        case ["reset-after", count]:
            link.reset_after(int(count))
        case ["rtt", milliseconds]:
            link.rtt_s = float(milliseconds) / 1000
        case ["rate", megabits]:
            link.rate_bytes_per_s = float(megabits) * 125_000
        case ["traffic"] | []:
            pass
        case _:
            print(f"unknown: {' '.join(words)}", flush=True)
    print(link.traffic, flush=True)


if __name__ == "__main__":
    sys.exit(main())
