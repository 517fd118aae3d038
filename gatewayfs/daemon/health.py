"""The health log: what an administrator should know, a line when it comes and a line when it is over.

``status`` says what is wrong *now*; this says what was wrong at three in the morning. It looks at the same problems
every ``LOOK_S``, and hears of refusals by the store as they happen. Each is told once, again every ``REPEAT_S`` while
it lasts or goes on happening (with a count of the times between), and a lasting one once more when it is over. Lines
go to ``health.file`` and, whether there is one or not, to the daemon's log.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import trio

from gatewayfs.daemon.healthtypes import TYPES, Severity
from gatewayfs.daemon.problems import CONFLICT, Problem
from gatewayfs.errors import CredentialsRejected, ObjectArchived, ObjectDamaged, ObjectNotFound
from gatewayfs.runtime.clock import Clock
from gatewayfs.s3.refusals import Refusal

log = logging.getLogger(__name__)

LOOK_S = 30.0
REPEAT_S = 3600.0
REMEMBERED_MAX = 1000
"""Kinds of refusals remembered; a bucket with more kinds of trouble than that repeats some of them early."""

_LEVELS = {Severity.INFO: logging.INFO, Severity.WARNING: logging.WARNING, Severity.ERROR: logging.ERROR}

ABOUT_ONE_OBJECT = frozenset(("ObjectMissing", "InaccessibleStorageClass", "ObjectDamaged"))

Identity = tuple[str, str, str]
"""Type, operation, and what it is about: of two with the same, the second is a repetition."""


@dataclass(slots=True)
class _Told:
    at_s: float
    problem: Problem
    again: int = 0


class HealthLog:
    """Tells once, repeats seldom.

    Args:
        put: takes a finished line and never blocks; None: to the daemon's log only.
    """

    def __init__(
        self, share: str, bucket: str, gateway: str, clock: Clock, put: Callable[[bytes], None] | None
    ) -> None:
        self._names = {"bucket": bucket, "source": share, "gateway": gateway}
        self._clock = clock
        self._put = put
        self._lasting: dict[Identity, _Told] = {}
        self._refusals: dict[Identity, _Told] = {}

    async def run(self, look: Callable[[], list[Problem]]) -> None:
        """Look again and again, until cancelled."""
        while True:
            self.seen(look())
            await trio.sleep(LOOK_S)

    def seen(self, problems: list[Problem]) -> None:
        """All problems there are now."""
        lasting = (problem for problem in problems if problem.type != CONFLICT)
        now = {(problem.type, problem.operation, problem.what): problem for problem in lasting}
        for identity, problem in now.items():
            self._once(self._lasting, identity, problem)
        for identity in [identity for identity in self._lasting if identity not in now]:
            self._tell(self._lasting.pop(identity).problem, over=True)

    def refused(self, refusal: Refusal) -> None:
        """The store refused a request; safe to call from a store's wrapper."""
        error = refusal.error
        if isinstance(error, ObjectNotFound):
            kind = "ObjectMissing"
        elif isinstance(error, ObjectArchived):
            kind = "InaccessibleStorageClass"
        elif isinstance(error, ObjectDamaged):
            kind = "ObjectDamaged"
        else:
            kind = "CredentialsRejected" if isinstance(error, CredentialsRejected) else "S3AccessDenied"
        # Of denied requests one kind of operation tells the story, of objects each is one of its own.
        about = refusal.key if kind in ABOUT_ONE_OBJECT else ""
        if len(self._refusals) >= REMEMBERED_MAX:
            self._refusals.clear()
        problem = Problem(kind, str(error), refusal.operation, refusal.key)
        self._once(self._refusals, (kind, refusal.operation, about), problem)

    def happened(self, event: Mapping[str, Any]) -> None:
        """The uploader met something: a conflict is told with the object it is about, each once."""
        if event.get("event") not in ("conflict", "fragment"):
            return
        other = f"; the other version is {event['other']}" if "other" in event else ""
        text = f"{event['key']} was changed here and by others: {event['what']}{other}"
        self._tell(Problem(CONFLICT, text, "S3PutObject", str(event["key"])))

    def started(self, *, first: bool, clean: bool) -> None:
        """The gateway has started. ``clean``: the one before it had come to its end."""
        if first:
            return
        if clean:
            self._tell(Problem("Reboot", "the gateway was started again"))
        else:
            self._tell(Problem("HardReboot", "the gateway before this one had ended without being stopped"))

    def _once(self, told: dict[Identity, _Told], identity: Identity, problem: Problem) -> None:
        now_s = self._clock.monotonic()
        before = told.get(identity)
        if before is not None and now_s - before.at_s < REPEAT_S:
            before.again += 1
            before.problem = problem
            return
        self._tell(problem, repeated=before.again if before is not None else 0)
        told[identity] = _Told(now_s, problem)

    def _tell(self, problem: Problem, *, repeated: int = 0, over: bool = False) -> None:
        kind = TYPES[problem.type]
        severity = Severity.INFO if over else kind.severity
        line = {
            "severity": severity.value,
            **self._names,
            "type": problem.type,
            "operation": problem.operation,
            "key": problem.key,
            "timestamp": str(self._clock.time_ns() // 1_000_000),
            "state": "over" if over else "on",
            "message": problem.text,
            "cure": kind.cure,
            "repeated": repeated,
        }
        if self._put is not None:
            self._put(msgspec.json.encode(line))
        log.log(
            _LEVELS[severity],
            "%s%s: %s",
            "over: " if over else "",
            problem.type,
            problem.text,
            extra={"health": problem.type, "operation": problem.operation, "key": problem.key, "cure": kind.cure},
        )
