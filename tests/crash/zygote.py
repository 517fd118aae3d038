"""A process with everything imported, which forks daemons and writers in milliseconds.

Starting Python and importing the daemon takes most of a second; two hundred kills would be minutes of imports. The
zygote imports once, stays without threads, and forks a child per order. Orders and answers are JSON lines:

    {"fork": "module:function", "arguments": {...}, "env": {...}, "output": path}   -> {"pid": 123}
    {"wait": 123}                                                                   -> {"status": -9}
    {"poll": 123}                                                                   -> {"status": null}

A child is nobody's but the zygote's, so its pid is not given to another process before ``wait``; and it dies with the
zygote, which dies with the test.
"""

import ctypes
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any, Self

PR_SET_PDEATHSIG = 1
ROOT = Path(__file__).parents[2]


class Zygote:
    """The test's end. Safe to use from several threads.

    Args:
        modules: imported before the first fork.
        env: environment of the zygote, for what must be there before the first import (``LD_PRELOAD``).
    """

    def __init__(self, *modules: str, env: dict[str, str] | None = None) -> None:
        self._mutex = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.zygote", *modules],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            cwd=ROOT,
            env=os.environ | (env or {}),
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._orders, self._answers = self._process.stdin, self._process.stdout

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._orders.close()
        self._process.wait(10)
        self._answers.close()

    def fork(self, target: str, output: Path, env: dict[str, str] | None = None, **arguments: Any) -> "Child":
        """Run ``target`` ("module:function") with the arguments in a new child; its output goes to a file."""
        order = {"fork": target, "arguments": arguments, "env": env or {}, "output": str(output)}
        return Child(self, int(self.order(order)["pid"]), output)

    def order(self, order: dict[str, Any]) -> dict[str, Any]:
        with self._mutex:
            self._orders.write(json.dumps(order) + "\n")
            line = self._answers.readline()
        assert line, "the zygote is dead"
        return dict(json.loads(line))


class Child:
    """A forked child, with the part of ``subprocess.Popen`` that tests use."""

    def __init__(self, zygote: Zygote, pid: int, output: Path) -> None:
        self._zygote = zygote
        self.pid = pid
        self.output = output
        self.returncode: int | None = None

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self._zygote.order({"poll": self.pid})["status"]
        return self.returncode

    def wait(self, timeout: float = 60.0) -> int:
        """The exit status, negative for a signal; after ``timeout`` seconds the child is made to dump its stacks."""
        alarm = threading.Timer(timeout, self.send_signal, [signal.SIGABRT])
        alarm.start()
        try:
            if self.returncode is None:
                # The wait happens here, not in the zygote: it serves other children meanwhile.
                descriptor = os.pidfd_open(self.pid)
                try:
                    select.select([descriptor], [], [])
                finally:
                    os.close(descriptor)
                self.returncode = int(self._zygote.order({"wait": self.pid})["status"])
        finally:
            alarm.cancel()
        return self.returncode


def main(modules: list[str]) -> None:
    for name in modules:
        importlib.import_module(name)
    for line in sys.stdin:
        order = json.loads(line)
        if "fork" in order:
            answer: dict[str, Any] = {"pid": _fork(order)}
        else:
            pid, status = os.waitpid(order.get("wait") or order["poll"], os.WNOHANG if "poll" in order else 0)
            answer = {"status": os.waitstatus_to_exitcode(status) if pid else None}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    os._exit(0)  # children get SIGKILL with their parent


def _fork(order: dict[str, Any]) -> int:
    pid = os.fork()
    if pid:
        return pid
    status = 70
    try:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        os.setsid()
        output = os.open(order["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        null = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((null, 0), (output, 1), (output, 2)):
            os.dup2(source, target)
        os.environ.update(order["env"])
        module, _, function = order["fork"].partition(":")
        status = getattr(importlib.import_module(module), function)(**order["arguments"]) or 0
    except SystemExit as leaving:
        status = leaving.code if isinstance(leaving.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    main(sys.argv[1:])
