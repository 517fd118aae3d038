"""Bodies: one revision or nothing, in memory and in two passes."""

import hashlib
from pathlib import Path

import pytest
import xxhash

from gatewayfs.errors import BodyChanged, CacheDiskFailed
from gatewayfs.runtime.fingerprints import fingerprint_of
from gatewayfs.s3 import bodies
from gatewayfs.s3.bodies import FileSink, read_payload
from gatewayfs.s3.store import FileRange, InlineBody

DATA = bytes(range(256)) * 64


@pytest.fixture(params=["in memory", "two passes"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "two passes":
        monkeypatch.setattr(bodies, "IN_MEMORY_BYTES_MAX", 1000)
        monkeypatch.setattr(bodies, "PIECE_BYTES", 1000)
    return str(request.param)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "file"
    made.write_bytes(DATA)
    return made


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(("start", "length"), [(0, len(DATA)), (100, 5000), (16_000, 384), (0, 3000)])
def test_a_payload_is_the_range_with_its_digest(path: Path, start: int, length: int) -> None:
    data = DATA[start : start + length]
    payload = read_payload(FileRange(str(path), start, length, xxhash.xxh3_128_digest(data)))
    assert payload.length == length
    assert payload.sha256 == hashlib.sha256(data).hexdigest()
    assert b"".join(payload.chunks()) == data
    assert b"".join(payload.chunks()) == data


@pytest.mark.usefixtures("way")
def test_another_content_than_planned_is_refused_before_anything_is_sent(path: Path) -> None:
    planned = FileRange(str(path), 0, len(DATA), xxhash.xxh3_128_digest(DATA))
    path.write_bytes(DATA[:-1] + b"X")
    with pytest.raises(BodyChanged):
        read_payload(planned)


@pytest.mark.usefixtures("way")
def test_a_fingerprint_by_cells_is_checked_as_well(path: Path) -> None:
    planned = FileRange(str(path), 0, len(DATA), fingerprint_of(DATA, 1000), 1000)
    assert b"".join(read_payload(planned).chunks()) == DATA
    path.write_bytes(DATA[:-1] + b"X")
    with pytest.raises(BodyChanged):
        read_payload(planned)


@pytest.mark.usefixtures("way")
def test_a_file_too_short_or_gone_is_refused(path: Path) -> None:
    with pytest.raises(BodyChanged):
        read_payload(FileRange(str(path), 1, len(DATA)))
    path.unlink()
    with pytest.raises(BodyChanged):
        read_payload(FileRange(str(path), 0, 1))


def test_a_change_after_the_check_does_not_reach_an_in_memory_body(path: Path) -> None:
    payload = read_payload(FileRange(str(path), 0, len(DATA)))
    path.write_bytes(b"X" * len(DATA))
    assert b"".join(payload.chunks()) == DATA


@pytest.mark.parametrize("way", ["two passes"], indirect=True)
def test_a_change_between_the_passes_never_completes_the_body(way: str, path: Path) -> None:
    """The store has been promised a length; short of it, it accepts nothing."""
    payload = read_payload(FileRange(str(path), 0, len(DATA)))
    with path.open("r+b") as file:
        file.seek(5000)
        file.write(b"changed")
    sent: list[bytes] = []

    def send() -> None:
        for piece in payload.chunks():
            sent.append(piece)

    with pytest.raises(BodyChanged):
        send()
    assert sum(map(len, sent)) < len(DATA)


def test_inline_bodies_are_themselves() -> None:
    payload = read_payload(InlineBody(b"abc"))
    assert (list(payload.chunks()), payload.length) == ([b"abc"], 3)
    assert list(read_payload(InlineBody(b"")).chunks()) == [b""]


def test_a_sink_never_writes_beyond_its_range(path: Path) -> None:
    sink = FileSink(str(path), 100, 10)
    for piece in (b"12345", b"6789", b"0overflow", b"more"):
        sink(memoryview(piece))
    assert path.read_bytes() == DATA[:100] + b"1234567890" + DATA[110:]


def test_a_sink_into_nothing_is_a_disk_failure(tmp_path: Path) -> None:
    with pytest.raises(CacheDiskFailed):
        FileSink(str(tmp_path / "nothing"), 0, 10)
