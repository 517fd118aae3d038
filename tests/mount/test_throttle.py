"""`gatewayfs throttle` on a mounted share: what it says, what it does, what stays."""

import json
import time
from collections.abc import Callable
from pathlib import Path

from tests.support.gateway import Gateway
from tests.support.link import Link
from tests.support.s3server import Bucket

OFFICE = {
    "DaysOfWeek": [0, 1, 2, 3, 4, 5, 6],
    "StartHourOfDay": 0,
    "StartMinuteOfHour": 0,
    "EndHourOfDay": 23,
    "EndMinuteOfHour": 59,
    "AverageUploadRateLimitInBitsPerSec": 80_000_000,
}


def shown(gateway: Gateway, *arguments: str) -> list[str]:
    return gateway.verb("throttle", *arguments).stdout.splitlines()


def limits_shown(gateway: Gateway, *arguments: str) -> list[str]:
    """The lines of upload and download without the rates of the moment."""
    return [line.partition(", now ")[0] for line in shown(gateway, *arguments)[:2]]


def test_limits_are_set_shown_kept_and_lifted(gateway: Callable[..., Gateway], tmp_path: Path) -> None:
    share = gateway(settings={"throttle.upload": "8Mbit"})
    where = str(share.mount_dir)
    assert limits_shown(share, "show", where) == [
        "upload    8Mbit/s (1.0 MB/s) (configuration)",
        "download  no limit",
    ]
    shown(share, "set", where, "--upload", "40Mbit", "--download", "64KB/s")
    file = tmp_path / "office.json"
    file.write_text(json.dumps([OFFICE]))
    assert shown(share, "schedule", where, str(file))[:2] == [
        "schedule  UTC",
        "  Sun,Mon,Tue,Wed,Thu,Fri,Sat 00:00-23:59  upload 80Mbit/s (10.0 MB/s)",
    ]
    share.restart()
    limits = share.status()["throttle"]
    assert (limits["upload"]["limit_bytes_per_s"], limits["upload"]["limit_from"]) == (10_000_000, "schedule")
    assert (limits["download"]["limit_bytes_per_s"], limits["download"]["limit_from"]) == (64_000, "set")
    printed = json.loads(share.verb("throttle", "schedule", where, "--json").stdout)
    assert printed == {"BandwidthRateLimitIntervals": [OFFICE]}
    assert shown(share, "schedule", where, "--clear") == ["schedule  none"]
    assert limits_shown(share, "set", where, "--download", "off") == [
        "upload    40Mbit/s (5.0 MB/s) (set)",
        "download  no limit",
    ]


def test_mistakes_are_told_and_change_nothing(gateway: Callable[..., Gateway], tmp_path: Path) -> None:
    share = gateway()
    where = str(share.mount_dir)
    bad = tmp_path / "bad.json"
    bad.write_text(json.dumps([OFFICE, OFFICE]))
    for arguments, told, code in (
        (["set", where], "nothing to set", 2),
        (["set", where, "--upload", "fast"], "write a rate like", 2),
        (["set", where, "--upload", "1kbit"], "too low; at least 51.2kbit", 2),
        (["show", where, "--upload", "1MB"], "takes no limits", 2),
        (["show", where, "--clear"], "takes no schedule", 2),
        (["schedule", where, str(bad), "--clear"], "contradict", 2),
        (["schedule", where, str(bad)], "intervals 1 and 2 overlap on Sun", 1),
        (["schedule", where, str(tmp_path / "none.json")], "cannot be read", 1),
        (["schedule", where, __file__], "is not JSON", 1),
    ):
        done = share.verb("throttle", *arguments, check=False)
        assert told in done.stderr, arguments
        assert done.returncode == code, arguments
    assert shown(share, "show", where)[-1] == "schedule  none"


def test_a_mounted_share_keeps_to_its_limit_and_answers_while_it_does(bucket: Bucket, gateways: object) -> None:
    """2 MB/s: 60 small files and a large one, counted by the link; a directory listing meanwhile."""
    with Link(bucket.endpoint_url) as link:
        share = gateways.mount(bucket, endpoint_url=link.url, settings={"upload.settle": "0s"})  # type: ignore[attr-defined]
        share.verb("throttle", "set", str(share.mount_dir), "--upload", "2MB/s")
        before, began = link.traffic.up_bytes, time.monotonic()
        for number in range(60):
            (share.mount_dir / f"small{number}").write_bytes(bytes(50_000))
        (share.mount_dir / "large").write_bytes(bytes(7_000_000))
        slowest = 0.0
        while (share.status()["upload"]["entries"]) > 0:
            asked = time.monotonic()
            assert "large" in [path.name for path in share.mount_dir.iterdir()]
            slowest = max(slowest, time.monotonic() - asked)
        took = time.monotonic() - began
        passed = link.traffic.up_bytes - before
        assert passed > 10_000_000
        assert passed / took <= 2_000_000 * 1.05
        assert passed / took >= 2_000_000 * 0.5  # on a busy machine asking for the status takes long
        assert slowest < 2.0
        seen = json.loads(share.verb("throttle", "show", str(share.mount_dir), "--json").stdout)
        assert seen["upload"]["total_bytes"] >= passed
        assert seen["upload"]["rate_bytes_per_s"] > 500_000
