"""``gatewayfs export --serve`` with a real nfs-ganesha and rpcbind, in network and mount namespaces of their own.

A second ganesha on one network would take over the first one's registrations and its port, so each test module gets a
network with nothing but loopback. /run is private, too (rpcbind's socket, pid files); the mounts of the gateways get in
because they lie below a directory whose mounts are shared.
"""

import ctypes
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from tests.support.gateway import PROGRAM, Gateway
from tests.support.libnfs import LIBRARY, Client

NEEDED = ("ganesha.nfsd", "rpcbind", "unshare", "ip")
SERVES_S_MAX = 30.0
INSIDE_S_MAX = 120.0
POLL_S = 0.1
REREAD = "Reread exports"
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)

T = TypeVar("T")


def why_no_nfs() -> str:
    """What is missing for these tests, or ""."""
    missing = [name for name in NEEDED if shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/sbin") is None]
    try:
        ctypes.CDLL(LIBRARY)
    except OSError:
        missing.append(LIBRARY)
    return f"needs {', '.join(missing)} (scripts/setup.sh installs them)" if missing else ""


@contextmanager
def shared_directory(directory: Path) -> Iterator[Path]:
    """A directory whose mounts are seen in namespaces made later."""
    subprocess.run(["mount", "--bind", str(directory), str(directory)], check=True)
    subprocess.run(["mount", "--make-shared", str(directory)], check=True)
    try:
        yield directory
    finally:
        subprocess.run(["umount", "-l", str(directory)], check=True)


class NfsServer:
    """The supervisor and its ganesha.

    Args:
        etc: takes the place of /etc/ganesha.
        runtime_dir: where the gateways are registered.
    """

    def __init__(self, etc: Path, runtime_dir: Path) -> None:
        self.etc = etc
        self.runtime_dir = runtime_dir
        self.log_path = etc.parent / "nfs.log"
        self.process: subprocess.Popen[bytes] | None = None

    def install(self, gateway: Gateway, **settings: str) -> None:
        """``gatewayfs export --install`` for the gateway's share; grace as short as a test wants it."""
        gateway.verb(*self.arguments(gateway, **settings), "--install")
        main = self.etc / "ganesha.conf"
        text = main.read_text()
        if "RecoveryRoot" not in text:
            assert "Grace_Period = 30;" in text
            recovery = self.etc / "recovery"
            recovery.mkdir()
            text = text.replace("NFSv4 {\n", f'NFSv4 {{\n    RecoveryRoot = "{recovery}";\n')
            main.write_text(text.replace("Grace_Period = 30;", "Grace_Period = 2;"))

    def start(self) -> None:
        script = (
            "ip link set lo up; mount -t tmpfs tmpfs /run; rpcbind -f & "
            "until rpcinfo >/dev/null 2>&1; do sleep 0.05; done; "
            f'exec "{PROGRAM}" export --serve --etc "{self.etc}"'
        )
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                ["unshare", "--net", "--mount", "--propagation", "slave", "sh", "-c", script],
                env=os.environ | {"GATEWAYFS_RUNTIME_DIR": str(self.runtime_dir)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        ours = os.readlink("/proc/self/ns/net")
        while os.readlink(f"/proc/{self.process.pid}/ns/net") == ours:  # `unshare` has not got to it
            assert self.process.poll() is None, self.log_tail()
            time.sleep(POLL_S)

    def arguments(self, gateway: Gateway, **settings: str) -> list[str]:
        """``gatewayfs export`` for the gateway's share, without an action."""
        wanted = gateway.settings | settings | {"mount.directory": str(gateway.mount_dir)}
        sets = [part for name, value in wanted.items() for part in ("--set", f"{name}={value}")]
        return ["export", gateway.bucket.name, *sets, "--etc", str(self.etc)]

    def reread(self) -> None:
        """Have ganesha read its exports again; return when it did."""
        pid = self.ganesha()
        assert pid is not None
        before = self.log_path.read_text(errors="replace").count(REREAD)
        os.kill(pid, signal.SIGHUP)
        deadline = time.monotonic() + SERVES_S_MAX
        while self.log_path.read_text(errors="replace").count(REREAD) == before:
            assert time.monotonic() < deadline, self.log_tail()
            time.sleep(POLL_S)

    def stop(self) -> None:
        """SIGTERM to the supervisor, which ends ganesha; then whatever is left of its session."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        try:
            os.killpg(self.process.pid, signal.SIGKILL)  # rpcbind
        except ProcessLookupError:
            pass

    def ganesha(self) -> int | None:
        """The pid of the ganesha that runs, or None."""
        assert self.process is not None
        for thread in Path(f"/proc/{self.process.pid}/task").iterdir():
            for child in (thread / "children").read_text().split():
                if os.readlink(f"/proc/{child}/exe").endswith("ganesha.nfsd"):
                    return int(child)
        return None

    def inside(self, work: Callable[[], T]) -> T:
        """Do the work in a thread that is in the server's network; its exception is raised here."""
        outcome: list[T] = []
        problems: list[BaseException] = []

        def enter() -> None:
            try:
                assert self.process is not None
                fd = os.open(f"/proc/{self.process.pid}/ns/net", os.O_RDONLY)
                if _libc.setns(fd, _CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), "setns")
                os.close(fd)
                outcome.append(work())
            except BaseException as problem:  # handed to the caller's thread
                problems.append(problem)

        thread = threading.Thread(target=enter, daemon=True)
        thread.start()
        thread.join(INSIDE_S_MAX)
        if problems:
            problems[0].add_note(self.log_tail())
            raise problems[0]
        assert outcome, f"no answer in {INSIDE_S_MAX:g} s:\n{self.log_tail()}"
        return outcome[0]

    def mount(self, path: str, **arguments: Any) -> Client:
        """A client, as soon as the server lets it in. Calls on it must be made ``inside``."""
        deadline = time.monotonic() + SERVES_S_MAX
        while True:
            try:
                return Client(path, **arguments)
            except OSError as problem:
                if time.monotonic() > deadline:
                    raise AssertionError(f"cannot mount {path}: {problem}\n{self.log_tail()}") from problem
            time.sleep(POLL_S)

    def log_tail(self) -> str:
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-40:])
