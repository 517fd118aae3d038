"""Can the targets of events be reached as configured? Nothing is sent, nothing is started, nothing is written."""

import os
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

from gatewayfs.cli.findings import Finding, fail, ok, warning
from gatewayfs.config import EventsOptions

CONNECT_S = 5.0
"""Longer than any healthy network needs; the doctor is waited for."""


def event_findings(events: EventsOptions) -> Iterator[Finding]:
    """One line for each target that is named."""
    if events.file is not None:
        yield _file(events)
    if events.command:
        yield _command(events)
    if events.webhook is not None:
        yield _webhook(events.webhook)


def _file(events: EventsOptions) -> Finding:
    file = events.file
    assert file is not None
    place = file if file.exists() else file.parent
    if file.exists() and not file.is_file():
        return fail("events.file", f"{file} is not a file", "name a file")
    if not os.access(place, os.W_OK):
        return fail("events.file", f"{place} cannot be written to, or is missing", "make it, and let the daemon write")
    return ok("events.file", str(file))


def _command(events: EventsOptions) -> Finding:
    program = events.command[0]
    if not os.path.isfile(program) or not os.access(program, os.X_OK):
        return fail("events.command", f"{program} is missing or cannot be executed", "install it, or chmod +x it")
    return ok("events.command", program)


def _webhook(url: str) -> Finding:
    """A connection only: a POST would be taken for an event. The path may be a secret and is not shown."""
    address = urlsplit(url)
    assert address.hostname is not None
    place = f"{address.scheme}://{address.netloc}"
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        socket.create_connection((address.hostname, port), CONNECT_S).close()
    except OSError as problem:
        reason = problem.strerror or str(problem)
        return warning("events.webhook", f"{place} cannot be reached: {reason}", "events wait until it can")
    return ok("events.webhook", f"{place} takes connections")
