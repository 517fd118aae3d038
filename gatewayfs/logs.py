"""The daemon's log: one configuration, two forms, no secrets, no floods.

* ``text``: one line per message with a UTC time, tracebacks below it. When journald is at the other end of standard
  error, each line begins with its priority (``<3>``) instead and the journal keeps the time.
* ``json``: one JSON object per line, the traceback in a field.

Fields given as ``extra={"key": ...}`` appear in both. Whatever the form, ``redact`` runs over the finished text: the
last line of defence, should a secret ever reach a message or a traceback. A message repeated without end (the same
place in the code, whatever its arguments) is cut off after BURST per PERIOD_S, and the next one let through says how
many were left out.
"""

import io
import json
import logging
import logging.handlers
import os
import re
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

BURST = 20
PERIOD_S = 60.0
"""A store that is down fails every worker every few seconds; twenty a minute tell the story."""

_STANDARD_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "suppressed", "taskName"}
_PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}

_REDACTED = "[redacted]"
_SECRET_PATTERNS = (
    re.compile(r"\b((?:AKIA|ASIA)[A-Z0-9]{4})[A-Z0-9]{8,}"),
    re.compile(r"(?i)(\bSignature=)[0-9a-f]{16,}"),
    re.compile(r"(?i)(\bX-Amz-(?:Signature|Security-Token|Credential)[=:]\s*)[^\s&'\",]+"),
    re.compile(r"(?i)(\bx-amz-security-token['\"]?\s*[:=]\s*b?['\"]?)[^\s'\",]+"),
    re.compile(r"(?i)((?:aws_)?(?:secret_?access_?key|session_?token|secret_?key)['\"]?\s*[:=]\s*b?['\"]?)[^\s'\",]+"),
    re.compile(r"(\b[a-z][a-z0-9+.-]*://[^/\s:@]+:)[^/\s@]+(?=@)"),
)
_known_secrets: set[str] = set()


def hide(secret: str) -> None:
    """Never write this text again, wherever it turns up. Too short to be a secret (under 8 characters) is ignored."""
    if len(secret) >= 8:
        _known_secrets.add(secret)


def redact(text: str) -> str:
    """The text without known secrets and without what looks like one."""
    for secret in _known_secrets:
        text = text.replace(secret, _REDACTED)
    for pattern in _SECRET_PATTERNS:
        text = pattern.sub(rf"\g<1>{_REDACTED}", text)
    return text


class TextFormatter(logging.Formatter):
    """``2026-01-02T03:04:05.678Z WARNING gatewayfs.upload: message key=value``."""

    def format(self, record: logging.LogRecord) -> str:
        return redact(f"{_utc(record.created)} {record.levelname} {record.name}: {_body(self, record)}")


class JournalFormatter(logging.Formatter):
    """``<4>gatewayfs.upload: message``; every line has the priority, so a traceback stays with its message."""

    def format(self, record: logging.LogRecord) -> str:
        priority = f"<{_PRIORITIES.get(record.levelno, 5)}>"
        text = redact(f"{record.name}: {_body(self, record)}")
        return "\n".join(priority + line for line in text.splitlines())


class JsonFormatter(logging.Formatter):
    """One object per line: time, level, logger, message, then the extra fields and the traceback."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": _utc(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_extra(record),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        # Redacted before encoding: a quote that JSON escaped would end a pattern early.
        return json.dumps(_redacted(entry), ensure_ascii=False, default=repr)


class FloodGate(logging.Filter):
    """Lets BURST messages of one origin through per PERIOD_S; the first one after that says how many were not."""

    def __init__(self) -> None:
        super().__init__()
        self._windows: dict[tuple[str, int, int], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        origin = (record.pathname, record.lineno, record.levelno)
        began, count = self._windows.get(origin, (record.created, 0))
        if record.created - began >= PERIOD_S or record.created < began:
            if count > BURST:
                record.suppressed = count - BURST
            began, count = record.created, 0
        self._windows[origin] = (began, count + 1)
        return count < BURST


def configure(level: str, form: str, file: Path | None = None, *, env: Mapping[str, str] = os.environ) -> None:
    """Set up the root logger; may be called again.

    Args:
        level: "debug", "info", "warning" or "error".
        form: "text" or "json".
        file: append to this file, reopened when something rotated it; None is standard error.
        env: the environment, for JOURNAL_STREAM.

    Raises:
        OSError: the file cannot be opened.
    """
    handler: logging.Handler
    if file is not None:
        handler = logging.handlers.WatchedFileHandler(file, encoding="utf-8", errors="backslashreplace")
    else:
        handler = logging.StreamHandler(sys.stderr)
    journal = file is None and form == "text" and is_journal(sys.stderr, env)
    handler.setFormatter(JsonFormatter() if form == "json" else JournalFormatter() if journal else TextFormatter())
    handler.addFilter(FloodGate())
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    root.setLevel(level.upper())
    # A line per request and per connection; nobody who asked for our details meant theirs. They also print headers.
    for chatty in ("botocore", "boto3", "urllib3", "s3transfer"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, logging.getLevelName(level.upper())))
    logging.captureWarnings(True)
    logging.raiseExceptions = False  # a full log disk must not write tracebacks of logging itself


def is_journal(stream: TextIO, env: Mapping[str, str]) -> bool:
    """Whether the stream is the very pipe JOURNAL_STREAM names (a child's redirected one is not)."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError, io.UnsupportedOperation):
        return False
    return env.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def _body(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    fields = "".join(f" {name}={value!r}" for name, value in _extra(record).items())
    text = record.getMessage() + fields
    if record.exc_info:
        text += "\n" + formatter.formatException(record.exc_info)
    return text


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    fields = {name: value for name, value in vars(record).items() if name not in _STANDARD_FIELDS}
    suppressed = getattr(record, "suppressed", 0)
    return fields | ({"suppressed_before": suppressed} if suppressed else {})


def _redacted(value: Any) -> Any:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {str(name): _redacted(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_redacted(item) for item in value]
    return value if isinstance(value, int | float | bool | None) else redact(repr(value))


def _utc(created: float) -> str:
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(created))}.{int(created % 1 * 1000):03}Z"
