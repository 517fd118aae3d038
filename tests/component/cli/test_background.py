"""``mount --background``: the command's end says whether the mount serves."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

PROGRAM = """
import os, sys, time
from pathlib import Path
from gatewayfs.cli import failures
from gatewayfs.cli.background import run_in_background
from gatewayfs.errors import UserError, StoreUnreachable

def serve(ready):
    Path(sys.argv[1], "pid").write_text(f"{os.getpid()} {os.getsid(0)} {os.getcwd()}")
    print("hello from the child", flush=True)
    SERVE

try:
    code = run_in_background(serve, Path(sys.argv[1], "log"))
except Exception as error:
    text, code = failures.described(error)
    print(text)
sys.exit(code)
"""


def run(serve: str, tmp_path: Path) -> tuple[int, str]:
    """Exit status and output of a program whose background child does ``serve``."""
    command = [sys.executable, "-c", PROGRAM.replace("SERVE", serve), str(tmp_path)]
    env = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=20, check=False)
    return done.returncode, done.stdout.strip()


def child_of(tmp_path: Path) -> tuple[int, int, str]:
    pid, session, directory = (tmp_path / "pid").read_text().split(" ")
    return int(pid), int(session), directory


def test_it_returns_0_when_the_child_serves_and_the_child_goes_on_alone(tmp_path: Path) -> None:
    code, said = run("ready(); ready(); time.sleep(60)", tmp_path)
    assert (code, said) == (0, "")
    pid, session, directory = child_of(tmp_path)
    try:
        assert session not in (pid, os.getsid(0))
        assert directory == "/"
        assert os.readlink(f"/proc/{pid}/fd/0") == os.devnull
        assert "hello from the child" in (tmp_path / "log").read_text()
    finally:
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize(
    "serve, code, said",
    [
        ('raise UserError("no bucket b", "create it", exit_code=4)', 4, "no bucket b; create it"),
        ('raise StoreUnreachable("no route")', 4, "the store cannot be reached: no route"),
        ("1 // 0", 1, "unexpected ZeroDivisionError; the traceback is in"),
        ("return 3", 1, "the gateway ended before the mount served"),
        ("os.kill(os.getpid(), 9)", 1, "the gateway ended before the mount served"),
    ],
)
def test_the_childs_error_is_the_commands_error(serve: str, code: int, said: str, tmp_path: Path) -> None:
    got, output = run(serve, tmp_path)
    assert got == code
    assert output.startswith(said)
    assert output.count("\n") == 0


def test_an_error_after_serving_is_only_in_the_log(tmp_path: Path) -> None:
    assert run('ready(); raise UserError("the disk broke")', tmp_path) == (0, "")
