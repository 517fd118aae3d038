"""Request bodies read from files, response bodies written into them. Runs in worker threads.

A file may be written while we upload it. What is sent must be one revision all the same: the range is read, its
fingerprint compared with the plan's, and only then does the first byte leave. Up to ``IN_MEMORY_BYTES_MAX`` the very
bytes that were checked are sent. A longer range (a part of an object beyond 600 GiB, a large single PUT) is
read twice, checked and hashed in the first pass and sent in the second; the second pass hashes again and holds the last
piece back when the result differs, so the store never sees a whole body that is not the one signed.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import trio

from gatewayfs.errors import BodyChanged, CacheDiskFailed
from gatewayfs.runtime.disk import OpenFile, open_file, pread_exactly, pwrite_all, translated
from gatewayfs.runtime.fingerprints import Fingerprinter, combined, fingerprint_of
from gatewayfs.s3.checksums import Checksum
from gatewayfs.s3.signing import EMPTY_SHA256
from gatewayfs.s3.store import Body, FileRange, InlineBody, Progress
from gatewayfs.s3.wire import Sink

IN_MEMORY_BYTES_MAX = 64 << 20
"""Parts are 8 MiB up to objects of 80 GiB and 64 MiB up to 640 GiB, so nearly everything is sent from memory."""

PIECE_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Payload:
    """A body ready to be signed and sent; ``chunks`` may be called again for another attempt.

    ``headers`` say its checksum, where one is wanted.
    """

    sha256: str
    length: int
    chunks: Callable[[], Iterable[bytes]]
    headers: Mapping[str, str] = field(default_factory=dict)


EMPTY_PAYLOAD = Payload(EMPTY_SHA256, 0, tuple)


def payload_of(data: bytes, checksum: Checksum | None = None) -> Payload:
    """Return the payload that is ``data``."""
    headers = {checksum.header: checksum.encoded(checksum.update(data, 0))} if checksum is not None else {}
    return Payload(hashlib.sha256(data).hexdigest(), len(data), lambda: (data,), headers)


def read_payload(body: Body, checksum: Checksum | None = None) -> Payload:
    """Read and check a body. Raises BodyChanged, CacheDiskFailed."""
    if isinstance(body, InlineBody):
        return payload_of(body.data, checksum)
    file = _open_source(body)
    if body.length > IN_MEMORY_BYTES_MAX:
        return _two_pass_payload(body, file, checksum)
    data = _read(file, body.offset, body.length, body)
    if body.fingerprint is not None and fingerprint_of(data, body.cell_bytes) != body.fingerprint:
        raise _changed(body)
    return payload_of(data, checksum)


def _two_pass_payload(body: FileRange, file: OpenFile, checksum: Checksum | None) -> Payload:
    value = 0
    digest = hashlib.sha256()
    fingerprint = Fingerprinter(body.cell_bytes)
    for piece in _pieces(body, file):
        digest.update(piece)
        fingerprint.update(piece)
        if checksum is not None:
            value = checksum.update(piece, value)
    if body.fingerprint is not None and combined(fingerprint.cells()) != body.fingerprint:
        raise _changed(body)
    signed = digest.digest()

    def chunks() -> Iterator[bytes]:
        again = hashlib.sha256()
        held = b""
        for piece in _pieces(body, file):
            if held:
                yield held
            again.update(piece)
            held = piece
        if again.digest() != signed:
            raise _changed(body)
        yield held

    headers = {checksum.header: checksum.encoded(value)} if checksum is not None else {}
    return Payload(signed.hex(), body.length, chunks, headers)


def _pieces(body: FileRange, file: OpenFile) -> Iterator[bytes]:
    for start in range(0, body.length, PIECE_BYTES):
        yield _read(file, body.offset + start, min(PIECE_BYTES, body.length - start), body)


def _open_source(body: FileRange) -> OpenFile:
    try:
        return open_file(Path(body.path))
    except FileNotFoundError as error:
        raise BodyChanged(f"file to upload is gone: {body.path}") from error


def _read(file: OpenFile, offset: int, length: int, body: FileRange) -> bytes:
    try:
        data = pread_exactly(file, offset, length)
    except OSError as error:
        raise translated(error, f"read {body.path}") from error
    if len(data) != length:
        raise _changed(body)
    return data


def _changed(body: FileRange) -> BodyChanged:
    return BodyChanged(f"file changed since the upload was planned: {body.path} at {body.offset}")


class FileSink:
    """Writes a response body into an existing file at ``offset``, at most ``length`` bytes of it.

    Raises CacheDiskFull, CacheDiskFailed.
    """

    def __init__(self, path: str, offset: int, length: int) -> None:
        self._path = path
        self._offset = offset
        self._end = offset + length
        try:
            self._file = open_file(Path(path))
        except FileNotFoundError as error:
            raise CacheDiskFailed(f"file to fill is gone: {path}") from error

    def __call__(self, piece: memoryview) -> None:
        # The reply's length was checked against the range before the first byte, so this only defends the file.
        piece = piece[: self._end - self._offset]
        try:
            pwrite_all(self._file, self._offset, piece)
        except OSError as error:
            raise translated(error, f"write {self._path}") from error
        self._offset += len(piece)


class Telling:
    """Tells the event loop how far the thread that writes a body has come. Made and ended on the loop."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._token = trio.lowlevel.current_trio_token()
        self._length = 0
        self._ended = False

    def begin(self) -> Sink:
        """A sink for the thread, to be called after each piece was written; counts anew."""
        self._length = 0

        def sink(piece: memoryview) -> None:
            self._length += len(piece)
            # Idempotent: pieces that come faster than the loop turns are told of once.
            self._token.run_sync_soon(self._tell, idempotent=True)

        return sink

    def end(self) -> None:
        """Nothing is told from now on: the file may be somebody else's."""
        self._ended = True

    def _tell(self) -> None:
        if not self._ended:
            self._progress(self._length)
