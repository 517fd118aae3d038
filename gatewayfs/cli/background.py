"""Serving in the background: the command returns when the mount serves, or with the reason why it does not.

The process forks twice before any thread or event loop exists. The grandchild has a session of its own, no terminal,
and the log file as its standard output and error. It tells the first process through a pipe: its pid at once, then
that it serves, or what went wrong; a pipe that closes without a word means it died.
"""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gatewayfs.cli import exitcodes
from gatewayfs.cli.failures import described
from gatewayfs.errors import UserError

Serve = Callable[[Callable[[], None]], int]
"""Serves until unmounted; calls its argument once it does; returns the exit status."""


def run_in_background(serve: Serve, log_file: Path) -> int:
    """Fork, and return when the child serves.

    Args:
        serve: runs in the child.
        log_file: where the child's output goes; appended to.

    Raises:
        UserError: the child's reason, with its exit status.
    """
    receiving, sending = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(receiving)
        _become_daemon(serve, sending, log_file)
    os.close(sending)
    os.waitpid(child, 0)
    with open(receiving, encoding="utf-8") as pipe:
        try:
            news = _await_news(iter(pipe))
        except KeyboardInterrupt:
            raise UserError("interrupted before the mount served", exit_code=exitcodes.INTERRUPTED) from None
    if "error" in news:
        raise UserError(news["error"], exit_code=news["exit_code"])
    if not news.get("serving"):
        raise UserError("the gateway ended before the mount served", f"{log_file} says why")
    return exitcodes.OK


def _await_news(lines: Any) -> dict[str, Any]:
    """The first line that is not the pid, or {} at the end. Ctrl-C ends the child, too."""
    pid = 0
    try:
        for line in lines:
            news: dict[str, Any] = json.loads(line)
            if "pid" not in news:
                return news
            pid = news["pid"]
    except KeyboardInterrupt:
        if pid:
            os.kill(pid, signal.SIGTERM)
        raise
    return {}


def _become_daemon(serve: Serve, sending: int, log_file: Path) -> None:
    """Never returns: what follows in the parent's code must not run twice."""
    code = exitcodes.FAILURE
    try:
        os.setsid()
        if os.fork() != 0:
            os._exit(exitcodes.OK)
        _tell(sending, {"pid": os.getpid()})
        _detach(log_file)
        code = serve(lambda: _tell_last(sending, {"serving": True}))
    except Exception as error:  # noqa: BLE001 - worded for the one who waits; the traceback is kept in a file
        text, code = described(error)
        print(f"gatewayfs: {text}", flush=True)
        _tell_last(sending, {"error": text, "exit_code": code})
    finally:
        os._exit(code)


def _detach(log_file: Path) -> None:
    """No terminal, no working directory to keep busy. What Python or a library prints lands in the log."""
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDONLY)
    log = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for source, target in ((null, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.close(null)
    os.close(log)


def _tell(sending: int, news: dict[str, Any]) -> None:
    try:
        os.write(sending, json.dumps(news).encode() + b"\n")
    except BrokenPipeError:
        pass  # whoever waited has gone away; the mount serves all the same


def _tell_last(sending: int, news: dict[str, Any]) -> None:
    """A second last word is not said: the first was that it serves, and the pipe is closed."""
    try:
        os.fstat(sending)
    except OSError:
        return
    _tell(sending, news)
    os.close(sending)
