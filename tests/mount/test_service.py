"""As systemd runs it: ready when it serves, pinging while it lives, stopped in time with a word on what is left."""

import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.gateway import Gateway
from tests.support.link import Link
from tests.support.s3server import Bucket
from tests.support.syscalls import write_file

WATCHDOG_S = 1.5

CONFINED = (
    sys.executable,
    "-c",
    # PR_SET_MDWE, inherited; kernels before 6.3 refuse, and systemd makes do with a filter of system calls there.
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(65, 1, 0, 0, 0); os.execvp(sys.argv[1], sys.argv[1:])",
    *("setpriv", "--no-new-privs", "--bounding-set", "-all,+sys_admin,+dac_override"),
)
"""As the unit confines it: these capabilities, no others by any means, and no memory that is written and executed."""


class Manager:
    """The end of NOTIFY_SOCKET that systemd holds."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.heard: list[str] = []

    def wait_for(self, wanted: str, within_s: float) -> bool:
        """Whether a message that contains ``wanted`` comes in time."""
        deadline = time.monotonic() + within_s
        while (left_s := deadline - time.monotonic()) > 0:
            self.socket.settimeout(left_s)
            try:
                self.heard.append(self.socket.recv(4096).decode())
            except TimeoutError:
                return False
            if wanted in self.heard[-1]:
                return True
        return False

    def forget(self) -> None:
        """Take what is already here off the socket."""
        self.socket.setblocking(False)
        try:
            while self.socket.recv(4096):
                pass
        except BlockingIOError:
            return


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    # A unix socket's path has 108 bytes.
    path = Path("/tmp") / f"gwfs-notify-{os.getpid()}"
    path.unlink(missing_ok=True)
    made = Manager(path)
    yield made
    made.socket.close()
    path.unlink()


def service_env(manager: Manager) -> dict[str, str]:
    return {"NOTIFY_SOCKET": manager.socket.getsockname(), "WATCHDOG_USEC": str(int(WATCHDOG_S * 1e6))}


def test_ready_when_it_serves_pings_while_it_lives_and_says_that_it_stops(
    gateway: Callable[..., Gateway], manager: Manager
) -> None:
    served = gateway(start=False, env=service_env(manager), wrapper=CONFINED)
    served.spawn()
    assert manager.wait_for("READY=1", 60)
    assert os.listdir(served.mount_dir) == []
    assert manager.wait_for(f"STATUS=serving {served.mount_dir}", 30)
    assert manager.wait_for("WATCHDOG=1", 30)
    assert manager.wait_for("WATCHDOG=1", 30)
    assert served.process is not None
    served.process.send_signal(signal.SIGSTOP)
    manager.forget()
    assert not manager.wait_for("WATCHDOG=1", 2 * WATCHDOG_S), "a daemon that does not turn must not ping"
    served.process.send_signal(signal.SIGCONT)
    assert manager.wait_for("WATCHDOG=1", 30)
    served.process.send_signal(signal.SIGTERM)
    assert manager.wait_for("STOPPING=1", 30)
    assert served.wait_exit() == 0


def test_the_watchdogs_signal_leaves_the_stacks_in_the_log(gateway: Callable[..., Gateway]) -> None:
    served = gateway(env={"PYTHONFAULTHANDLER": ""})
    assert served.process is not None
    served.process.send_signal(signal.SIGABRT)
    assert served.wait_exit() == -signal.SIGABRT
    assert "Fatal Python error: Aborted" in served.log()
    assert "run_daemon" in served.log()


def test_exec_stop_ends_in_time_says_what_is_left_and_loses_nothing(
    gateway: Callable[..., Gateway], bucket: Bucket
) -> None:
    with Link(bucket.endpoint_url) as link:
        served = gateway(endpoint_url=link.url)
        assert served.process is not None
        stop = ["umount", f"--pid={served.process.pid}", "--timeout=1s", "--anyway"]
        assert os.listdir(served.mount_dir) == []  # known from now on, also without the bucket
        link.refuse()
        write_file(served.mount_dir / "left", b"content")
        # Somebody in the mount keeps an ordinary umount from its work, not a service's stop.
        inside = os.open(served.mount_dir, os.O_PATH)
        said = served.verb(*stop)
        assert served.wait_exit() == 0
        os.close(inside)
        assert "1 file" in said.stdout
        assert f"safe in {served.cache_dir}" in said.stdout
        assert served.verb(*stop).stdout == f"no gateway runs as process {served.process.pid}\n"
        assert served.verb("umount", "--pid=", "--anyway").returncode == 0
        link.join()
        served.start()
        served.drain()
        assert bucket.keys() == ["left"]
