"""The wire between the command line and a running gateway.

A connection carries one call. The client sends one line of JSON, the server answers with any number of progress lines
and then exactly one result or error line, and closes::

    > {"v": 1, "call": "drain", "args": {"wait": true}}
    < {"progress": {"files_left": 12, "bytes_left": 120034}}
    < {"progress": null}                                            a sign of life, every HEARTBEAT_S
    < {"ok": true, "result": {"files_left": 0}}
    < {"ok": false, "error": {"message": "...", "cure": "...", "exit_code": 1}}

The client keeps its side open until it has the answer; closing it withdraws the call. ``v`` is the version of this
form: a server refuses a version it does not know and says which it speaks, so an old client meets a clear message.
What calls there are and what they answer is in ``calls.py``.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from gatewayfs.errors import UserError

VERSION = 1

REQUEST_BYTES_MAX = 256 << 10
"""50 folders of 1,024 bytes, escaped, fit four times over."""

RESPONSE_BYTES_MAX = 64 << 20
"""A check that finds a hundred thousand problems still comes through."""

HEARTBEAT_S = 5.0
SILENCE_S_MAX = 30.0
"""A server that says nothing for six heartbeats hangs."""


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One call."""

    v: int
    call: str
    args: dict[str, Any] = {}


class Failure(msgspec.Struct, frozen=True):
    """Why a call failed, for a person."""

    message: str
    cure: str = ""
    exit_code: int = 1


class Frame(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of the server. ``ok`` None: progress, and more lines follow."""

    ok: bool | None = None
    result: dict[str, Any] | None = None
    error: Failure | None = None
    progress: dict[str, Any] | None = None


class ProtocolError(UserError):
    """The other side does not speak this protocol, or another version of it."""


_request_decoder = msgspec.json.Decoder(Request)
_frame_decoder = msgspec.json.Decoder(Frame)


def encode_request(call: str, args: Mapping[str, Any]) -> bytes:
    """The request line. Raises ProtocolError when it is longer than a server accepts."""
    line = msgspec.json.encode(Request(VERSION, call, dict(args))) + b"\n"
    if len(line) > REQUEST_BYTES_MAX:
        raise ProtocolError(f"the arguments of {call} are too long ({len(line)} bytes)", "give fewer at a time")
    return line


def decode_request(line: bytes) -> Request:
    """Raises ProtocolError for what is no request of our version."""
    try:
        request = _request_decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProtocolError(f"not a request: {error}", 'send one line like {"v": 1, "call": "status"}') from error
    if request.v != VERSION:
        raise ProtocolError(
            f"the gateway speaks version {VERSION} of the control protocol, the request is version {request.v}",
            "use the gatewayfs command of the same release as the running gateway",
        )
    return request


def encode_result(result: Mapping[str, Any]) -> bytes:
    """The last line of a call that succeeded. Raises TypeError for what JSON cannot hold."""
    return msgspec.json.encode({"ok": True, "result": result}) + b"\n"


def encode_failure(error: UserError) -> bytes:
    """The last line of a call that failed."""
    failure = Failure(error.message, error.cure, error.exit_code)
    return msgspec.json.encode({"ok": False, "error": failure}) + b"\n"


def encode_progress(progress: Mapping[str, Any] | None) -> bytes:
    """A line in between; None is a mere sign of life."""
    return msgspec.json.encode({"progress": progress}) + b"\n"


def decode_frame(line: bytes) -> Frame:
    """Raises ProtocolError for what no server of ours sends."""
    try:
        return _frame_decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProtocolError(f"the gateway's answer cannot be read: {error}") from error
