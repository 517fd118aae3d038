"""What a doctor's check says: one line, ok, warning or fail, and the cure where one is needed."""

from dataclasses import dataclass
from enum import Enum


class Verdict(Enum):
    """Ordered from best to worst by ``rank``."""

    OK = "ok"
    WARNING = "warning"
    FAIL = "fail"

    @property
    def rank(self) -> int:
        return list(Verdict).index(self)


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    verdict: Verdict
    subject: str
    text: str
    cure: str = ""


def ok(subject: str, text: str) -> Finding:
    return Finding(Verdict.OK, subject, text)


def warning(subject: str, text: str, cure: str) -> Finding:
    return Finding(Verdict.WARNING, subject, text, cure)


def fail(subject: str, text: str, cure: str) -> Finding:
    return Finding(Verdict.FAIL, subject, text, cure)
