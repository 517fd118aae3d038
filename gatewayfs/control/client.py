"""The command line's side of the control socket: one plain blocking call."""

import socket
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from gatewayfs.control import protocol
from gatewayfs.errors import UserError

NOT_RUNNING_EXIT_CODE = 3
"""Same number as ``cli.exitcodes.NOT_RUNNING``, which this floor may not import."""


class GatewayGone(UserError):
    """Nobody answers on the socket, or no longer."""

    def __init__(self, message: str, cure: str = "") -> None:
        super().__init__(message, cure, NOT_RUNNING_EXIT_CODE)


def call(
    path: Path,
    name: str,
    args: Mapping[str, Any] | None = None,
    *,
    progress: Callable[[Mapping[str, Any]], None] | None = None,
    timeout_s: float | None = None,
) -> dict[str, Any]:
    """Make one call and wait for its result.

    Args:
        path: the gateway's socket.
        name: one of ``control.calls``.
        args: JSON values.
        progress: called with every progress frame.
        timeout_s: at most this long in all; None waits as long as the gateway shows signs of life.

    Raises:
        GatewayGone: nobody listens, or the gateway ended before it answered.
        UserError: the gateway refused or failed, in its words; or it fell silent.
    """
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    request = protocol.encode_request(name, args or {})
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(protocol.SILENCE_S_MAX)
        try:
            connection.connect(str(path))
            connection.sendall(request)
        except (FileNotFoundError, ConnectionRefusedError, BrokenPipeError) as error:
            raise GatewayGone(f"no gateway answers on {path}") from error
        except PermissionError as error:
            raise UserError(
                f"{path} may only be used by root and the gateway's own user", "run this as root"
            ) from error
        except TimeoutError as error:
            raise UserError(f"the gateway does not take calls on {path}", "look into its log") from error
        for line in _lines(connection, name, deadline):
            frame = protocol.decode_frame(line)
            if frame.ok is None:
                if progress is not None and frame.progress is not None:
                    progress(frame.progress)
            elif frame.error is not None:
                raise UserError(frame.error.message, frame.error.cure, frame.error.exit_code)
            else:
                return frame.result or {}
    raise GatewayGone(f"the gateway ended before it answered {name}", "its log says why")


def _lines(connection: socket.socket, name: str, deadline: float | None) -> Iterator[bytes]:
    received = bytearray()
    while True:
        line, newline, rest = received.partition(b"\n")
        if newline:
            received = bytearray(rest)
            yield bytes(line)
            continue
        if len(received) > protocol.RESPONSE_BYTES_MAX:
            raise protocol.ProtocolError(f"the gateway's answer to {name} is longer than 64 MiB")
        left_s = protocol.SILENCE_S_MAX if deadline is None else deadline - time.monotonic()
        if left_s <= 0:
            raise UserError(f"the gateway did not answer {name} in time", "give it longer, or look into its log")
        connection.settimeout(min(left_s, protocol.SILENCE_S_MAX))
        try:
            chunk = connection.recv(256 << 10)
        except TimeoutError:
            if left_s < protocol.SILENCE_S_MAX:
                continue  # our own deadline, told above
            raise UserError(f"the gateway fell silent during {name}", "look into its log") from None
        except ConnectionResetError:
            chunk = b""
        if not chunk:
            return
        received += chunk
