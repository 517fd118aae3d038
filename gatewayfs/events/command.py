"""Events given to a program: one start per event, the event on its standard input, exit status 0 means taken.

No shell, and nothing of our own environment: what the daemon was started with may hold the bucket's keys. The program
leads a process group of its own, which is killed when its time is up or the daemon stops; then the event counts as not
taken. What it says on standard error is shown when it fails, as far as it goes.
"""

import os
import select
import signal
import subprocess
import threading
from collections.abc import Sequence

from gatewayfs.events.settings import DeliveryFailed
from gatewayfs.runtime.offload import Offloader, thread_clock

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

COMPLAINT_BYTES_MAX = 500
"""What is kept of a program's standard error."""


class CommandTarget:
    """A ``Taker`` that starts ``argv`` once per event, one after the other.

    Args:
        share: the share's name, which the program finds in GATEWAYFS_SHARE.
        timeout_s: how long it may take.
    """

    name = "command"
    lines_max = 1
    parallel = 1

    def __init__(self, argv: Sequence[str], share: str, timeout_s: float, offload: Offloader) -> None:
        self._argv, self._timeout_s, self._offload = tuple(argv), timeout_s, offload
        self._environment = {"PATH": PATH, "LANG": "C.UTF-8", "GATEWAYFS_SHARE": share}

    async def deliver(self, lines: Sequence[bytes]) -> None:
        for line in lines:
            run = _Run(self._argv, self._environment, self._timeout_s)
            await self._offload.run(run, line + b"\n", interrupt=run.kill)


class _Run:
    """One start of the program. Called in a thread; ``kill`` may be called from another one."""

    def __init__(self, argv: tuple[str, ...], environment: dict[str, str], timeout_s: float) -> None:
        self._argv, self._environment, self._timeout_s = argv, environment, timeout_s
        self._mutex = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._killed = False

    def __call__(self, event: bytes) -> None:
        """Raises DeliveryFailed."""
        deadline_s = thread_clock() + self._timeout_s
        process = self._start()
        try:
            complaint = self._converse(process, event, deadline_s)
            if complaint is None:
                raise DeliveryFailed(f"{self._argv[0]} did not end within {self._timeout_s:g} s")
            if status := process.wait():
                what = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
                raise DeliveryFailed(f"{self._argv[0]} {what}" + (f": {complaint}" if complaint else ""))
        finally:
            self._end(process)

    def kill(self) -> bool:
        """End it and all it started. False: the thread ends soon."""
        with self._mutex:
            self._killed = True
            if self._process is not None:
                _kill_group(self._process.pid)
        return False

    def _start(self) -> "subprocess.Popen[bytes]":
        with self._mutex:
            if self._killed:
                raise DeliveryFailed("the gateway stops")
            try:
                self._process = subprocess.Popen(
                    self._argv,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    cwd="/",
                    env=self._environment,
                    start_new_session=True,
                )
            except OSError as problem:
                raise DeliveryFailed(f"{self._argv[0]} cannot be started: {problem.strerror}") from problem
            return self._process

    def _converse(self, process: "subprocess.Popen[bytes]", event: bytes, deadline_s: float) -> str | None:
        """Hand the event over and listen until the program has ended: what it complained of; None: time is up.

        Its own end counts, not that of its pipes, which a child it left behind may hold open.
        """
        assert process.stdin is not None
        assert process.stderr is not None
        heard, left = bytearray(), memoryview(event)
        ended, errors, entry = os.pidfd_open(process.pid), process.stderr.fileno(), process.stdin.fileno()
        poll = select.poll()
        poll.register(ended, select.POLLIN)
        poll.register(errors, select.POLLIN)
        poll.register(entry, select.POLLOUT)
        for descriptor in (errors, entry):
            os.set_blocking(descriptor, False)
        try:
            while True:
                ready = dict(poll.poll(max(0.0, deadline_s - thread_clock()) * 1000))
                if entry in ready:
                    left = _feed(entry, left)
                    if not left:
                        poll.unregister(entry)
                        process.stdin.close()
                if errors in ready and not _hear(errors, heard):
                    poll.unregister(errors)
                if ended in ready:
                    return " ".join(heard.decode(errors="replace").split())
                if thread_clock() >= deadline_s:
                    return None
        finally:
            os.close(ended)

    def _end(self, process: "subprocess.Popen[bytes]") -> None:
        with self._mutex:
            if process.returncode is None:
                _kill_group(process.pid)
            process.wait()
            self._process = None
        for pipe in (process.stdin, process.stderr):
            if pipe is not None:
                pipe.close()


def _feed(descriptor: int, left: memoryview) -> memoryview:
    """Write what fits; returns the rest. A program that reads none of it does not care what happened: its exit status
    says whether that is all right."""
    try:
        return left[os.write(descriptor, left) :]
    except BlockingIOError:
        return left
    except BrokenPipeError:
        return left[:0]


def _hear(descriptor: int, heard: bytearray) -> bool:
    """Take what is there, keep its beginning. False at the end."""
    try:
        piece = os.read(descriptor, 1 << 16)
    except BlockingIOError:
        return True
    heard += piece[: COMPLAINT_BYTES_MAX - len(heard)]
    return bool(piece)


def _kill_group(leader: int) -> None:
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        return  # it has just ended
