"""The doctor's look at the targets of events."""

import socket
from pathlib import Path

from gatewayfs.cli.doctor_events import event_findings
from gatewayfs.cli.findings import Verdict
from gatewayfs.config import EventsOptions, load


def verdicts(*sets: str) -> dict[str, Verdict]:
    events: EventsOptions = load(sets=sets, flags={"share.bucket": "bucket"}, env={}, euid=0).events
    return {finding.subject: finding.verdict for finding in event_findings(events)}


def test_no_target_no_line() -> None:
    assert verdicts() == {}


def test_targets_that_are_fit(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        webhook = f"events.webhook=http://127.0.0.1:{server.getsockname()[1]}/t0ken"
        found = verdicts(f"events.file={tmp_path}/events", "events.command=/bin/sh", webhook)
    assert found == dict.fromkeys(("events.file", "events.command", "events.webhook"), Verdict.OK)


def test_targets_that_are_not(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o644)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    sets = (f"events.command={program}", f"events.webhook=http://127.0.0.1:{port}/t0ken")
    found = verdicts(f"events.file={tmp_path}/missing/events", *sets)
    assert found == {
        "events.file": Verdict.FAIL,
        "events.command": Verdict.FAIL,
        "events.webhook": Verdict.WARNING,
    }
    assert verdicts(f"events.file={tmp_path}") == {"events.file": Verdict.FAIL}
