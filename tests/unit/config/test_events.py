"""The options of events: what they take, and what they refuse without repeating a secret."""

from pathlib import Path

import pytest

from tests.unit.config.test_load import loaded, mistakes_of


def test_targets_are_taken_from_set_and_from_a_file(tmp_path: Path) -> None:
    assert loaded().events.command == ()
    events = loaded("events.command=/bin/x --quiet", "events.webhook=https://e.example.com/hook/").events
    assert events.command == ("/bin/x", "--quiet")
    assert events.webhook == "https://e.example.com/hook/"
    assert (events.settle_s, events.outbox_bytes, events.source) == (60.0, 64 << 20, "gatewayfs")


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("events.command=x", "full path"),
        ("events.webhook=ftp://e", "write a URL like"),
        ("events.webhook=https://", "write a URL like"),
        ("events.webhook_headers_file=/missing", "events.webhook is not; set events.webhook"),
        ("events.outbox=1KiB", "too small"),
        ("events.webhok=https://e", "did you mean events.webhook"),
    ],
)
def test_mistakes_are_named_with_their_cure(setting: str, told: str) -> None:
    assert any(told in line for line in mistakes_of(setting))


@pytest.mark.parametrize("url", ["https://me:s3cr3t@e.example.com/", "https://e.example.com/?code=s3cr3t"])
def test_an_address_with_a_secret_is_refused_and_not_repeated(url: str) -> None:
    (line,) = mistakes_of(f"events.webhook={url}")
    assert "headers file" in line
    assert "s3cr3t" not in line


def test_headers_that_others_may_read_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "headers"
    file.write_text("Authorization: Bearer s3cr3t")
    file.chmod(0o644)
    (line,) = mistakes_of("events.webhook=https://e", f"events.webhook_headers_file={file}")
    assert f"events.webhook_headers_file {file}: mode 0644" in line
    assert "s3cr3t" not in line


def test_events_may_not_be_written_into_the_mount_they_tell_of() -> None:
    (line,) = mistakes_of("mount.directory=/mnt/photos", "events.file=/mnt/photos/log/events")
    assert "every line would cause another" in line


@pytest.mark.parametrize("option", ["log.file", "audit.file", "health.file"])
def test_no_log_may_lie_in_the_mount_it_tells_of(option: str) -> None:
    (line,) = mistakes_of("mount.directory=/mnt/photos", f"{option}=/mnt/photos/a")
    assert line.startswith(f"{option} /mnt/photos/a lies in the mount /mnt/photos")
