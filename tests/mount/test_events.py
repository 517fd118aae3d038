"""Events of a mounted share, to a file, a program and a web service, with a kill and a web service that is away."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.gateway import Gateway
from tests.support.s3server import Bucket
from tests.support.webservice import WebService

HOSTILE = 'quote" tab\t ü'
"""No new line, which moto cannot route (tests/unit/events has all of them)."""


def of_type(file: Path, event_type: str) -> list[dict[str, Any]]:
    """The events of a type; one that a kill had told again (at least once, with the same id) counts once."""
    events = [json.loads(line) for line in file.read_bytes().splitlines()] if file.exists() else []
    return [
        event
        for event in {event["id"]: event for event in events}.values()
        if event["detail"]["event-type"] == event_type
    ]


def uploaded(file: Path) -> set[str]:
    return {event["detail"]["object-key"] for event in of_type(file, "object-upload-complete")}


def test_what_happens_is_told_to_every_target_at_least_once(
    gateway: Callable[..., Gateway], bucket: Bucket, tmp_path: Path
) -> None:
    told, by_program, secrets = tmp_path / "told", tmp_path / "by-program", tmp_path / "headers"
    program = tmp_path / "on-event"
    program.write_text(f"#!/bin/sh\ncat >> {by_program}\n")
    program.chmod(0o755)
    secrets.write_text("Authorization: Bearer s3cr3t\n")
    secrets.chmod(0o600)
    with WebService() as web:
        web.status = 503
        share = gateway(
            settings={
                "events.file": str(told),
                "events.command": str(program),
                "events.webhook": f"{web.url}/t0ken",
                "events.webhook_headers_file": str(secrets),
                "events.settle": "0s",
            }
        )
        (share.mount_dir / "a").write_bytes(b"12345")
        (share.mount_dir / HOSTILE).write_bytes(b"1")
        asked = json.loads(share.verb("notify-when-uploaded", str(share.mount_dir), "--json").stdout)
        share.wait_until(lambda: bool(of_type(told, "upload-complete")), 60, "the notification")
        share.kill9()
        share.start()
        share.wait_until(lambda: share.status()["events"]["targets"]["webhook"]["failing_since_ns"] > 0, 60, "503")
        status = share.status()
        assert status["events"]["targets"]["webhook"]["waiting"] >= 3
        assert any("not delivered to the webhook" in problem and "503" in problem for problem in status["problems"])
        share.verb("refresh-cache", "--wait", str(share.mount_dir))
        web.status = 204
        share.wait_until(lambda: share.status()["events"]["targets"]["webhook"]["waiting"] == 0, 60, "the web service")
        share.wait_until(lambda: share.status()["events"]["targets"]["command"]["waiting"] == 0, 60, "the program")
        share.wait_until(lambda: bool(of_type(told, "refresh-complete")), 60, "the refresh's event")
        posted = {json.loads(body)["id"] for _, headers, body in web.got if headers["Authorization"] == "Bearer s3cr3t"}
    (done,) = of_type(told, "upload-complete")
    assert done["detail"]["notification-id"] == asked["notification_id"]
    (detail,) = (
        event["detail"] for event in of_type(told, "object-upload-complete") if event["detail"]["object-size"] == 5
    )
    assert (detail["object-key"], detail["bucket-name"]) == ("a", bucket.name)
    assert HOSTILE in uploaded(told)
    ids = {json.loads(line)["id"] for line in told.read_bytes().splitlines()}
    assert ids == {json.loads(line)["id"] for line in by_program.read_bytes().splitlines()} == posted
    assert "s3cr3t" not in share.log()
    assert "t0ken" not in share.log()


def test_notify_when_uploaded_without_a_target_must_wait(gateway: Callable[..., Gateway]) -> None:
    share = gateway(settings={"upload.settle": "1h", "upload.settle_max": "1h"})
    where = str(share.mount_dir)
    (share.mount_dir / "a").write_bytes(b"1")
    refused = share.verb("notify-when-uploaded", where, check=False)
    assert (refused.returncode, "no target of events is configured" in refused.stderr) == (1, True)
    late = share.verb("notify-when-uploaded", where, "--wait", "--timeout", "1s", check=False)
    assert (late.returncode, "not everything" in late.stdout) == (5, True)
    share.drain()
    assert "is in the bucket since" in share.verb("notify-when-uploaded", where, "--wait").stdout
    assert share.status()["events"]["notifications"] == 0
