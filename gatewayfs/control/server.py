"""The gateway's side of the control socket.

Only root and the gateway's own user may speak here: the socket has mode 0600 and the kernel's word on the peer
(SO_PEERCRED) is checked on top. A client can do no harm by being slow, dead or mad: requests are bounded in size and
time, every connection is a task of its own, progress is conflated (a slow reader gets the newest, not all), a write
that does not go through within SEND_S_MAX ends that connection, and a client that hangs up withdraws its call.

A handler's unexpected error costs one call: the client gets one line, the log the traceback.
"""

import logging
import os
import socket
import stat
import struct
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import trio

from gatewayfs.control import protocol
from gatewayfs.errors import GatewayError, UserError

logger = logging.getLogger(__name__)

REQUEST_S_MAX = 10.0
SEND_S_MAX = 10.0
SEND_BYTES_PER_S_MIN = 1 << 20
CONNECTIONS_MAX = 32
"""A handful of people and a monitor; the next ones are told to come back."""
SOCKET_PATH_BYTES_MAX = 107
"""sun_path of Linux, without its NUL."""

Progress = Callable[[Mapping[str, Any]], None]
Handler = Callable[[dict[str, Any], Progress], Awaitable[Mapping[str, Any]]]
"""``async def handler(args, progress) -> result``. ``progress(frame)`` never blocks and may be called any number of
times. Raises UserError (or any GatewayError) for what the caller shall read."""


def peer_uid(stream: trio.SocketStream) -> int:
    """The user the kernel saw connecting."""
    packed = stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _pid, uid, _gid = struct.unpack("3i", packed)
    return int(uid)


class ControlServer:
    """Serves calls on a unix socket.

    Args:
        path: where the socket goes; a dead socket there is replaced.
        handlers: what to do for each call name.
        peer_uid: who is at the other end of a connection; tests put another in.
    """

    def __init__(
        self,
        path: Path,
        handlers: Mapping[str, Handler],
        *,
        peer_uid: Callable[[trio.SocketStream], int] = peer_uid,
    ) -> None:
        self._path = path
        self._handlers = dict(handlers)
        self._peer_uid = peer_uid
        self._allowed_uids = {0, os.geteuid()}
        self._connections = 0

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen until cancelled; ``started()`` once clients can connect. The socket's file is removed at the end.

        Raises:
            UserError: the socket cannot be made (path too long, another gateway listens there).
        """
        listener = trio.SocketListener(self._listen())
        identity = os.stat(self._path).st_ino
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.serve_listeners, self._connection, [listener])
                task_status.started()
        finally:
            _remove_own_socket(self._path, identity)

    def _listen(self) -> trio.socket.SocketType:
        if len(os.fsencode(self._path)) > SOCKET_PATH_BYTES_MAX:
            raise UserError(
                f"the control socket's path {self._path} is longer than {SOCKET_PATH_BYTES_MAX} bytes",
                "set GATEWAYFS_RUNTIME_DIR to a shorter directory",
            )
        _remove_dead_socket(self._path)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            # Before bind: Linux gives the file this mode, so there is no moment at which others could connect.
            os.fchmod(listening.fileno(), 0o600)
            listening.bind(str(self._path))
            listening.listen(CONNECTIONS_MAX)
        except OSError as error:
            listening.close()
            raise UserError(f"the control socket {self._path} cannot be made: {error.strerror}") from error
        return trio.socket.from_stdlib_socket(listening)

    async def _connection(self, stream: trio.SocketStream) -> None:
        self._connections += 1
        try:
            async with stream:
                await self._converse(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            logger.debug("a control client hung up")
        except Exception:
            logger.exception("a control connection failed")
        finally:
            self._connections -= 1

    async def _converse(self, stream: trio.SocketStream) -> None:
        try:
            # Read first, refuse then: closing on unread bytes would reset the connection under our answer.
            line = await _receive_line(stream)
            self._admit(stream)
            request = protocol.decode_request(line)
            handler = self._handlers.get(request.call)
            if handler is None:
                raise protocol.ProtocolError(
                    f"the gateway has no call named {request.call!r}",
                    "use the gatewayfs command of the same release as the running gateway",
                )
        except UserError as refusal:
            await _Output(stream).finish(protocol.encode_failure(refusal))
            return
        await self._call(stream, request, handler)

    def _admit(self, stream: trio.SocketStream) -> None:
        uid = self._peer_uid(stream)
        if uid not in self._allowed_uids:
            raise UserError(f"user {uid} may not control this gateway", "run the command as root")
        if self._connections > CONNECTIONS_MAX:
            raise UserError("the gateway is busy with other commands", "try again in a moment")

    async def _call(self, stream: trio.SocketStream, request: protocol.Request, handler: Handler) -> None:
        """Run the handler beside its progress sender, until it has answered or the client has left."""
        output = _Output(stream)
        async with trio.open_nursery() as nursery:

            async def until_gone(left: Callable[[], Awaitable[None]]) -> None:
                await left()
                nursery.cancel_scope.cancel()

            nursery.start_soon(until_gone, lambda: _client_left(stream))
            nursery.start_soon(until_gone, output.send_progress)
            answer = await _answer(handler, request, output.progress)
            # Without a checkpoint in between: the answer to ``stop`` goes out while everything is being cancelled.
            await output.finish(answer)
            nursery.cancel_scope.cancel()


class _Output:
    """What one call sends: the newest unsent progress or a sign of life, at last the answer; never half a line."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._newest: bytes | None = None
        self._news = trio.Event()
        self._mutex = trio.Lock()
        self._broken = False

    def progress(self, frame: Mapping[str, Any]) -> None:
        """Note it; a newer one replaces it until the client has taken the last."""
        self._newest = protocol.encode_progress(frame)
        self._news.set()

    async def send_progress(self) -> None:
        """Send what is noted, and signs of life in between; return when the client no longer takes it."""
        while not self._broken:
            with trio.move_on_after(protocol.HEARTBEAT_S):
                await self._news.wait()
            self._news = trio.Event()
            async with self._mutex:
                line, self._newest = self._newest or protocol.encode_progress(None), None
                await self._send(line)

    async def finish(self, answer: bytes) -> None:
        """Send the last line, even when the gateway is already stopping."""
        with trio.CancelScope(shield=True):
            async with self._mutex:
                if not self._broken:
                    await self._send(answer)

    async def _send(self, line: bytes) -> None:
        """Shielded, so that no line is cut in two; bounded, so that a client that does not read holds nobody."""
        with trio.move_on_after(SEND_S_MAX + len(line) / SEND_BYTES_PER_S_MIN, shield=True) as sending:
            try:
                await self._stream.send_all(line)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                self._broken = True
        self._broken = self._broken or sending.cancelled_caught


async def _answer(handler: Handler, request: protocol.Request, progress: Progress) -> bytes:
    try:
        return protocol.encode_result(await handler(request.args, progress))
    except UserError as error:
        return protocol.encode_failure(error)
    except GatewayError as error:
        return protocol.encode_failure(UserError(f"{request.call} failed: {str(error) or type(error).__name__}"))
    except Exception as error:
        logger.exception("the control call %s failed", request.call)
        message = f"{request.call} failed unexpectedly ({type(error).__name__})"
        return protocol.encode_failure(UserError(message, "the gateway's log has the traceback"))


async def _receive_line(stream: trio.SocketStream) -> bytes:
    """Raises UserError for a request that is too long, too slow or cut off."""
    received = bytearray()
    with trio.move_on_after(REQUEST_S_MAX):
        while b"\n" not in received:
            if len(received) >= protocol.REQUEST_BYTES_MAX:
                raise protocol.ProtocolError(f"a request may have at most {protocol.REQUEST_BYTES_MAX} bytes")
            chunk = await stream.receive_some(64 << 10)
            if not chunk:
                raise protocol.ProtocolError("the request has no end", "end it with a newline")
            received += chunk
        return bytes(received.partition(b"\n")[0])
    raise protocol.ProtocolError(f"no request came within {REQUEST_S_MAX:g} s")


async def _client_left(stream: trio.SocketStream) -> None:
    """Return when the client closed its side; what it sends beyond its one request is ignored."""
    try:
        while await stream.receive_some(4096):
            pass
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        return


def _remove_dead_socket(path: Path) -> None:
    """Make room for ours. Raises UserError when somebody listens there, or when it is not a socket."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise UserError(f"{path} is in the way of the control socket", "remove it")
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            return
    raise UserError(f"another gateway listens on {path}", "give this share another share.name")


def _remove_own_socket(path: Path, inode: int) -> None:
    """Leave alone what a successor may have put there."""
    try:
        if path.lstat().st_ino == inode:
            path.unlink()
    except FileNotFoundError:
        return
