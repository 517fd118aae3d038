"""`make demo` is the first thing anybody runs: it works, and however it ends, nothing of it is left."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "demo.py"
DEMO_S_MAX = 90


@pytest.fixture
def home() -> Iterator[Path]:
    """Where the demo makes its temporary directory."""
    with tempfile.TemporaryDirectory(prefix="gwfs-") as name:
        yield Path(name)


def run_demo(home: Path, **environ: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, str(SCRIPT)],
        env=os.environ | {"TMPDIR": str(home), "COLUMNS": "120"} | environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # A job in a script's background ignores Ctrl-C, and so would what it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def assert_nothing_is_left(home: Path) -> None:
    assert str(home) not in Path("/proc/mounts").read_text()
    assert list(home.glob("gatewayfs-demo-*")) == []
    processes = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert [line for line in processes if str(home).encode() in line] == []


def test_the_demo_shows_the_mount_beside_the_bucket_and_cleans_up(home: Path) -> None:
    with run_demo(home, CI="true") as demo:
        said, _ = demo.communicate(timeout=DEMO_S_MAX)
    assert demo.returncode == 0, said
    assert "gatewayfs/config/__init__.py" in said
    assert "file-permissions" in said
    assert_nothing_is_left(home)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
def test_a_demo_that_is_stopped_leaves_nothing(home: Path, number: signal.Signals, status: int) -> None:
    with run_demo(home, DEMO_SECONDS="600") as demo:
        assert demo.stdout is not None
        said = ""
        for line in demo.stdout:
            said += line
            if "Look around" in line:
                break
        demo.send_signal(number)
        said += demo.stdout.read()
        assert demo.wait(DEMO_S_MAX) == status, said
    assert_nothing_is_left(home)
