"""What the log looks like, and what it never says."""

import io
import json
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gatewayfs import logs

KEY = "AKIAIOSFODNN7EXAMPLE"
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"


@pytest.fixture(autouse=True)
def _keep_the_root_logger() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    for handler in handlers:  # pytest's own, which ``configure`` would close
        root.removeHandler(handler)
    yield
    for handler in root.handlers[:]:
        root.removeHandler(handler)
        handler.close()
    root.handlers, root.level = handlers, level
    logging.captureWarnings(False)
    logging.raiseExceptions = True


def written(form: str, tmp_path: Path, level: str = "info") -> Path:
    path = tmp_path / "gatewayfs.log"
    logs.configure(level, form, path)
    return path


def test_text_has_time_level_origin_message_and_fields(tmp_path: Path) -> None:
    path = written("text", tmp_path)
    logging.getLogger("gatewayfs.upload").warning("put failed: %s", "busy", extra={"key": "a/b", "attempt": 3})
    (line,) = path.read_text().splitlines()
    assert line.endswith("Z WARNING gatewayfs.upload: put failed: busy key='a/b' attempt=3")
    assert line[4] == "-"
    assert line[10] == "T"


def test_json_is_one_object_per_line_with_the_traceback_inside(tmp_path: Path) -> None:
    path = written("json", tmp_path)
    try:
        raise ValueError("bad\nthing")
    except ValueError:
        logging.getLogger("gatewayfs.fuse").exception("getattr failed", extra={"ino": 7})
    logging.getLogger("gatewayfs.fuse").info("next")
    first, second = [json.loads(line) for line in path.read_text().splitlines()]
    assert (first["level"], first["logger"], first["message"], first["ino"]) == (
        "error",
        "gatewayfs.fuse",
        "getattr failed",
        7,
    )
    assert first["traceback"].endswith("ValueError: bad\nthing")
    assert second["message"] == "next"


def test_the_journal_gets_priorities_on_every_line_only_when_it_listens(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with (tmp_path / "journal").open("w+") as pipe:
        status = os.fstat(pipe.fileno())
        journal = f"{status.st_dev}:{status.st_ino}"
        monkeypatch.setattr(sys, "stderr", pipe)
        logs.configure("info", "text", env={"JOURNAL_STREAM": journal})
        logging.getLogger("g").error("one\ntwo")
        logs.configure("info", "text", env={"JOURNAL_STREAM": "1:1"})
        logging.getLogger("g").error("three")
        pipe.seek(0)
        one, two, three = pipe.read().splitlines()
    assert (one, two) == ("<3>g: one", "<3>two")
    assert three.endswith("ERROR g: three")


def test_a_stream_without_a_descriptor_is_no_journal() -> None:
    assert not logs.is_journal(io.StringIO(), {"JOURNAL_STREAM": "1:1"})


@pytest.mark.parametrize(
    "message",
    [
        f"key {KEY}",
        f"aws_secret_access_key = {SECRET}",
        f"{{'secret_key': '{SECRET}'}}",
        f'{{"SecretAccessKey": "{SECRET}"}}',
        f"Authorization: AWS4-HMAC-SHA256 Credential={KEY}/2026/x, Signature={'0a' * 32}",
        f"https://h/b?X-Amz-Credential={KEY}%2F2026&X-Amz-Signature={'0a' * 32}&x=1",
        f"{{'x-amz-security-token': '{SECRET}'}}",
        f"https://ann:{SECRET.replace('/', 'x')}@host/b",
    ],
)
def test_what_looks_like_a_secret_is_never_written(message: str, tmp_path: Path) -> None:
    for form in ("text", "json"):
        path = written(form, tmp_path)
        logging.getLogger("g").info("%s", message, extra={"again": message})
        try:
            raise ValueError(message)
        except ValueError:
            logging.getLogger("g").exception("in a traceback")
        text = path.read_text()
        assert "[redacted]" in text
        for secret in (KEY, SECRET, SECRET.replace("/", "x"), "0a" * 32):
            assert secret not in text
        path.unlink()


def test_a_known_secret_is_never_written_wherever_it_turns_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_known_secrets", set())
    logs.hide("correcthorse")
    logs.hide("x")
    path = written("json", tmp_path)
    logging.getLogger("g").info("xylophone and %s", {"deep": ["correcthorsebattery"]}, extra={"o": [b"correcthorse"]})
    text = path.read_text()
    assert "correcthorse" not in text
    assert "xylophone" in text


def test_a_flood_is_cut_off_and_counted() -> None:
    gate = logs.FloodGate()

    def passes(line: int, at: float) -> tuple[bool, int]:
        record = logging.LogRecord("g", logging.ERROR, "file.py", line, "m %s", (at,), None)
        record.created = at
        return gate.filter(record), getattr(record, "suppressed", 0)

    assert sum(passes(1, 1000.0 + n / 100)[0] for n in range(500)) == logs.BURST
    assert passes(2, 1001.0) == (True, 0)
    assert passes(1, 1000.0 + logs.PERIOD_S) == (True, 500 - logs.BURST)
    assert passes(1, 1001.0 + logs.PERIOD_S) == (True, 0)


def test_the_level_is_kept_and_the_s3_librarys_details_are_not_ours(tmp_path: Path) -> None:
    path = written("text", tmp_path, level="debug")
    logging.getLogger("gatewayfs.x").debug("ours")
    logging.getLogger("botocore.auth").debug("theirs")
    assert "ours" in path.read_text()
    assert "theirs" not in path.read_text()
    logs.configure("warning", "text", path)
    logging.getLogger("gatewayfs.x").info("too fine")
    assert "too fine" not in path.read_text()


def test_a_rotated_file_is_reopened(tmp_path: Path) -> None:
    path = written("text", tmp_path)
    logging.getLogger("g").info("before")
    path.rename(tmp_path / "gatewayfs.log.1")
    logging.getLogger("g").info("after")
    assert "after" in path.read_text()
    assert "before" not in path.read_text()
