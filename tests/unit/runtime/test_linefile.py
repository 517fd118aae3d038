"""Lines reach the file, whatever it is renamed to; who writes them never waits."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gatewayfs.runtime.linefile import LineFile


def wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_lines_arrive_in_order_and_close_waits_for_the_last(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    path.write_bytes(b"before\n")
    lines = LineFile(path)
    for number in range(2000):
        lines.put(b"%d" % number)
    lines.close()
    assert path.read_bytes() == b"before\n" + b"".join(b"%d\n" % number for number in range(2000))
    assert lines.statistics().written == 2000


def test_a_rotated_file_is_followed_by_a_new_one(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    lines = LineFile(path)
    lines.put(b"one")
    wait(lambda: lines.statistics().written == 1)
    path.rename(tmp_path / "audit.jsonl.1")
    lines.put(b"two")
    lines.close()
    assert (tmp_path / "audit.jsonl.1").read_bytes() == b"one\n"
    assert path.read_bytes() == b"two\n"
    assert path.stat().st_mode & 0o007 == 0


def test_a_writer_that_hangs_costs_lines_not_time(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    lines = LineFile(path, lines_max=10)
    begun = time.monotonic()
    for _ in range(5000):
        lines.put(bytes(1000))
    assert time.monotonic() - begun < 20
    wait(lambda: lines.statistics().dropped > 0)
    os.close(reader)
    lines.close()


def test_a_disk_that_refuses_is_counted_and_forgiven(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    home = tmp_path / "logs"
    home.mkdir()
    lines = LineFile(home / "a")
    (home / "a").unlink()
    home.rmdir()
    lines.put(b"lost")
    wait(lambda: lines.statistics().dropped == 1)
    assert "No such file" in lines.statistics().error
    assert "lines are dropped" in caplog.text
    home.mkdir()
    lines.put(b"kept")
    lines.close()
    assert (home / "a").read_bytes() == b"kept\n"
    assert lines.statistics().error == ""


def test_a_file_that_cannot_be_opened_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        LineFile(tmp_path / "nowhere" / "a")
