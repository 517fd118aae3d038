"""A real daemon for one test: started, killed, restarted, asked and always cleaned up after.

``Gateways(tmp_path)`` is a context manager that makes them; at its end every daemon is dead and nothing of theirs is
mounted, whatever the test did. A daemon that stops answering would leave the test stuck inside a system call that no
signal ends, so a watchdog kills the daemons after ``STUCK_S``: the call then fails with ENOTCONN and the test with it,
and the log holds every thread's stack (the daemon runs with faulthandler, the watchdog sends SIGABRT first).
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.s3server import Bucket

PROGRAM = str(Path(sys.executable).parent / "gatewayfs")
SERVE_S_MAX = 30.0
VERB_S_MAX = 120.0
STUCK_S = 170.0
"""Less than pytest's timeout, which cannot end a system call that waits for a daemon."""
POLL_S = 0.01


class GatewayFailed(AssertionError):
    """The daemon, or a verb of the command line, did not do what the test needs; the log's tail is in the message."""


class Gateway:
    """One share of one bucket: its directories, and at most one daemon at a time.

    Args:
        bucket: the bucket to mount.
        home: an existing directory for the mount point, the cache and the log.
        prefix: mount only the keys under it.
        settings: ``--set key=value`` options. ``identity.squash`` is ``none`` here unless they say otherwise: tests
            run as root, and most of them ask whether what they made is as they made it.
        arguments: further arguments of ``gatewayfs mount``.
        env: additions to the daemon's environment.
        endpoint_url: instead of the bucket's own, for example a ``Link`` in front of it.
        wrapper: a command that runs the daemon, for example ``setpriv``.
    """

    def __init__(
        self,
        bucket: Bucket,
        home: Path,
        *,
        prefix: str = "",
        settings: Mapping[str, str] | None = None,
        arguments: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        endpoint_url: str = "",
        wrapper: Sequence[str] = (),
    ) -> None:
        self.bucket = bucket
        self.wrapper = list(wrapper)
        self.mount_dir = home / "mnt"
        self.cache_dir = home / "cache"
        self.log_path = home / "daemon.log"
        self.prefix = prefix
        self.settings = {"identity.squash": "none", **(settings or {})}
        self.arguments = list(arguments)
        self.env = dict(env or {})
        self.endpoint_url = endpoint_url or bucket.endpoint_url
        # A unix socket's path has 108 bytes; pytest's directories use most of them.
        self.runtime_dir = Path(tempfile.mkdtemp(prefix="gwfs-"))
        self.process: subprocess.Popen[bytes] | None = None
        self.mount_dir.mkdir(exist_ok=True)

    def __repr__(self) -> str:
        state = "down" if self.process is None else f"pid {self.process.pid}"
        return f"<Gateway {self.bucket.name}/{self.prefix} on {self.mount_dir} {state}>"

    def environ(self) -> dict[str, str]:
        """The environment of the daemon and of every verb."""
        own = {"GATEWAYFS_RUNTIME_DIR": str(self.runtime_dir), "PYTHONFAULTHANDLER": "1", "NO_COLOR": "1"}
        return os.environ | own | self.env

    def spawn(self) -> None:
        """Start the daemon without waiting for anything; raises GatewayFailed when one is running."""
        if self.process is not None and self.process.poll() is None:
            raise GatewayFailed(f"{self!r} is running already")
        share = f"{self.bucket.name}/{self.prefix}" if self.prefix else self.bucket.name
        command = [*self.wrapper, PROGRAM, "mount", share, str(self.mount_dir), "--cache-dir", str(self.cache_dir)]
        command += ["--endpoint-url", self.endpoint_url]
        for name, value in self.settings.items():
            command += ["--set", f"{name}={value}"]
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                command + self.arguments,
                env=self.environ(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def start(self, timeout_s: float = SERVE_S_MAX) -> Self:
        """Start the daemon and wait until the mount serves; raises GatewayFailed with the log's tail otherwise."""
        self.spawn()
        self.wait_serving(timeout_s)
        return self

    def wait_serving(self, timeout_s: float = SERVE_S_MAX) -> None:
        """Wait until the mount answers; raises GatewayFailed when the daemon ends or the time is up."""

        def serving() -> bool:
            if self.process is None or self.process.poll() is not None:
                raise GatewayFailed(f"{self!r} ended before it served:\n{self.log_tail()}")
            return self.serves()

        self.wait_until(serving, timeout_s, "the mount to serve")

    def serves(self) -> bool:
        """Whether a file system of its own answers on the mount point, within a second."""
        answer: list[bool] = []

        def ask() -> None:
            try:
                os.statvfs(self.mount_dir)  # never cached: stat may still answer for a dead daemon
                answer.append(os.stat(self.mount_dir).st_dev != os.stat(self.mount_dir.parent).st_dev)
            except OSError:  # ENOTCONN: the mount of a dead daemon
                answer.append(False)

        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        asking.join(1.0)
        return answer == [True]

    def wait_until(self, condition: Callable[[], bool], timeout_s: float, what: str) -> None:
        """Poll the condition; raises GatewayFailed naming ``what`` when it stays false for ``timeout_s``."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                raise GatewayFailed(f"waited {timeout_s:g} s for {what}; {self!r}:\n{self.log_tail()}")
            time.sleep(POLL_S)

    def wait_exit(self, timeout_s: float = SERVE_S_MAX) -> int:
        """Wait for the daemon's end and return its exit status (negative: the signal)."""
        if self.process is None:
            raise GatewayFailed(f"{self!r} was never started")
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise GatewayFailed(f"{self!r} did not end in {timeout_s:g} s:\n{self.log_tail()}") from None

    def kill9(self) -> None:
        """SIGKILL the daemon; the dead mount stays, as after a crash. Raises GatewayFailed when it was dead already."""
        if self.process is None or self.process.poll() is not None:
            raise GatewayFailed(f"{self!r} was not running, so nothing was killed:\n{self.log_tail()}")
        self.process.kill()
        self.process.wait()

    def terminate(self, timeout_s: float = VERB_S_MAX) -> int:
        """SIGTERM, as systemd stops a service; returns the exit status."""
        if self.process is None:
            raise GatewayFailed(f"{self!r} was never started")
        self.process.terminate()
        return self.wait_exit(timeout_s)

    def restart(self, timeout_s: float = SERVE_S_MAX) -> Self:
        """Start again on the same directories, killing a daemon that still runs."""
        if self.process is not None and self.process.poll() is None:
            self.kill9()
        return self.start(timeout_s)

    def verb(
        self, *arguments: str, timeout_s: float = VERB_S_MAX, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run ``gatewayfs ARGUMENTS``; raises GatewayFailed on a non-zero exit unless ``check`` is false."""
        try:
            done = subprocess.run(
                [PROGRAM, *arguments],
                env=self.environ(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise GatewayFailed(f"gatewayfs {' '.join(arguments)}: {timeout_s:g} s\n{self.log_tail()}") from None
        if check and done.returncode != 0:
            said = f"{done.stdout}{done.stderr}".strip()
            raise GatewayFailed(
                f"gatewayfs {' '.join(arguments)}: exit {done.returncode}\n{said}\n-- daemon:\n{self.log_tail()}"
            )
        return done

    def drain(self, timeout_s: float = VERB_S_MAX) -> None:
        """Wait until everything written so far is in the bucket."""
        self.verb("drain", "--wait", str(self.mount_dir), timeout_s=timeout_s)

    def status(self) -> dict[str, Any]:
        """``gatewayfs status --json``."""
        return dict(json.loads(self.verb("status", "--json", str(self.mount_dir)).stdout))

    def umount(self, *, drain: bool = True, timeout_s: float = VERB_S_MAX) -> None:
        """``gatewayfs umount``, and wait until the daemon is gone."""
        self.verb("umount", *([] if drain else ["--no-drain"]), str(self.mount_dir), timeout_s=timeout_s)
        self.wait_exit()

    def log(self) -> str:
        """Everything the daemons of this share wrote so far."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def log_tail(self, lines: int = 40) -> str:
        """The log's last lines."""
        return "\n".join(self.log().splitlines()[-lines:]) or "(its log is empty)"

    def abandon(self) -> None:
        """End the daemon with a dump of its stacks in the log, so that calls stuck on the mount fail."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGABRT)
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
        subprocess.run(["umount", "-f", str(self.mount_dir)], capture_output=True, check=False)

    def close(self) -> None:
        """Leave nothing behind: no process, no mount, no socket. Data directories stay for the test to look at."""
        if self.process is not None:
            try:
                os.killpg(self.process.pid, signal.SIGKILL)  # its transfer processes, too
            except ProcessLookupError:
                pass  # it ended by itself, with all its children
            self.process.wait()
        while is_mounted(self.mount_dir):
            subprocess.run(["umount", "-l", str(self.mount_dir)], capture_output=True, check=True)
        shutil.rmtree(self.runtime_dir)


class Gateways:
    """The daemons of one test, under ``home``; a context manager that ends them all."""

    def __init__(self, home: Path, *, stuck_s: float = STUCK_S) -> None:
        self.home = home
        self.made: list[Gateway] = []
        self.watchdog = threading.Timer(stuck_s, self.abandon_all)
        self.watchdog.daemon = True

    def mount(self, bucket: Bucket, *, start: bool = True, **arguments: Any) -> Gateway:
        """A new share with directories of its own, mounted and serving unless ``start`` is false.

        ``arguments`` are those of ``Gateway``.
        """
        home = self.home / f"share{len(self.made)}"
        home.mkdir()
        gateway = Gateway(bucket, home, **arguments)
        self.made.append(gateway)
        return gateway.start() if start else gateway

    def abandon_all(self) -> None:
        for gateway in self.made:
            gateway.abandon()

    def print_logs(self) -> None:
        for gateway in self.made:
            print(f"-- {gateway!r}, its last words:\n{gateway.log_tail(100)}")

    def __enter__(self) -> Self:
        self.watchdog.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.watchdog.cancel()
        for gateway in self.made:
            gateway.close()


def is_mounted(directory: Path) -> bool:
    """Whether the mount table has the directory; never asks the file system mounted there."""
    wanted = str(directory).encode().replace(b" ", rb"\040")
    return any(line.split()[4] == wanted for line in Path("/proc/self/mountinfo").read_bytes().splitlines())
