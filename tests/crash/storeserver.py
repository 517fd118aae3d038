"""One bucket that outlives the processes that use it.

``StoreServer`` keeps a ``FakeObjectStore`` in the test's process and serves it on a unix socket; ``SocketStore`` is the
``ObjectStore`` a child uses. As with a real store, a request that arrived whole takes effect even if its sender is dead
by then, and one that was cut off never happens. Pauses before and after the effect widen the moments in which a kill
leaves the sender not knowing.
"""

import contextlib
import pickle
import random
import struct
import threading
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import trio

from gatewayfs.errors import StoreError, StoreUnreachable
from gatewayfs.runtime.fingerprints import PassingCells
from gatewayfs.s3.store import (
    UNCONDITIONAL,
    Body,
    Condition,
    InlineBody,
    ObjectHeaders,
    ObjectInfo,
    Part,
    Progress,
    PutResult,
)
from gatewayfs.types import ETag, ObjectKey
from tests.support.fakestore import FakeObjectStore, read_body

_LENGTH = struct.Struct("<Q")


class Cut(Exception):
    """The other side is gone."""


async def _send(stream: trio.SocketStream, value: object) -> None:
    data = pickle.dumps(value)
    await stream.send_all(_LENGTH.pack(len(data)) + data)


async def _receive(stream: trio.SocketStream) -> Any:
    (length,) = _LENGTH.unpack(await _exactly(stream, _LENGTH.size))
    return pickle.loads(await _exactly(stream, length))


async def _exactly(stream: trio.SocketStream, length: int) -> bytes:
    pieces = []
    while length:
        piece = await stream.receive_some(min(length, 1 << 18))
        if not piece:
            raise Cut
        pieces.append(piece)
        length -= len(piece)
    return b"".join(pieces)


class StoreServer:
    """Serves ``fake`` on ``path`` from a thread of its own, for the length of a ``with`` block.

    Args:
        pause_s_max: each request waits a random time up to this before its effect, and again before its answer.
    """

    def __init__(self, fake: FakeObjectStore, path: Path, *, pause_s_max: float = 0.0, seed: int = 0) -> None:
        self.fake = fake
        self.path = path
        self._pause_s_max = pause_s_max
        self._rng = random.Random(seed)
        self._token: trio.lowlevel.TrioToken | None = None
        self._scope = trio.CancelScope()
        self._listening = threading.Event()
        self._thread = threading.Thread(target=lambda: trio.run(self._run), daemon=True)

    def __enter__(self) -> "StoreServer":
        self._thread.start()
        assert self._listening.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._token is not None
        self._token.run_sync_soon(self._scope.cancel)
        self._thread.join(10)

    async def _run(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        with self._scope, trio.socket.socket(trio.socket.AF_UNIX) as listener:
            await listener.bind(str(self.path))
            listener.listen(128)
            self._listening.set()
            async with trio.open_nursery() as nursery:
                while True:
                    connection, _ = await listener.accept()
                    nursery.start_soon(self._serve, trio.SocketStream(connection))

    async def _serve(self, stream: trio.SocketStream) -> None:
        with contextlib.suppress(Cut, trio.BrokenResourceError):
            async with stream:
                while True:
                    method, arguments, keywords = await _receive(stream)
                    await trio.sleep(self._rng.uniform(0, self._pause_s_max))
                    try:
                        answer: object = await getattr(self.fake, method)(*arguments, **keywords)
                    except StoreError as problem:
                        answer = problem
                    await trio.sleep(self._rng.uniform(0, self._pause_s_max))
                    await _send(stream, answer)


class SocketStore:
    """The ``ObjectStore`` in a child: every call is one request to a ``StoreServer``."""

    def __init__(self, bucket: str, path: str) -> None:
        self.bucket = bucket
        self._path = path
        self._idle: list[trio.SocketStream] = []

    def __getattr__(self, method: str) -> Any:
        return partial(self._ask, method)

    async def put(
        self,
        key: ObjectKey,
        body: Body,
        metadata: Mapping[str, str],
        headers: ObjectHeaders = ObjectHeaders(),
        *,
        condition: Condition = UNCONDITIONAL,
    ) -> PutResult:
        body = InlineBody(read_body(body))
        return await self._ask("put", key, body, dict(metadata), headers, condition=condition)

    async def upload_part(self, key: ObjectKey, upload_id: str, number: int, body: Body) -> Part:
        return await self._ask("upload_part", key, upload_id, number, InlineBody(read_body(body)))

    async def fetch(
        self,
        key: ObjectKey,
        start: int,
        length: int,
        path: str,
        offset: int,
        *,
        if_match: ETag | None = None,
        progress: Progress | None = None,
        passing: PassingCells | None = None,
    ) -> ObjectInfo:
        info, data = await self._ask("get", key, start, length, if_match=if_match)
        with open(path, "r+b") as file:
            file.seek(offset)
            file.write(data)
        if passing is not None:
            passing.begin()
            passing.update(data)
        return info

    async def _ask(self, method: str, *arguments: object, **keywords: object) -> Any:
        stream = self._idle.pop() if self._idle else await self._connect()
        try:
            await _send(stream, (method, arguments, keywords))
            answer = await _receive(stream)
        except (Cut, OSError, trio.BrokenResourceError) as problem:
            raise StoreUnreachable("the test's store is gone", operation=method) from problem
        self._idle.append(stream)
        if isinstance(answer, StoreError):
            raise answer
        return answer

    async def _connect(self) -> trio.SocketStream:
        connection = trio.socket.socket(trio.socket.AF_UNIX)
        await connection.connect(self._path)
        return trio.SocketStream(connection)
