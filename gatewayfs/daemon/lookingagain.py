"""The local door for news of the bucket: ``gatewayfs look-again``, for stores and set-ups without a queue.

What comes in is what a queue would bring (``refresh/notices.py``), or paths. The caller waits until it is applied.
"""

import logging
from typing import Any

import trio

from gatewayfs.control.server import Progress as Tell
from gatewayfs.errors import FsError, LocalError, StoreError, UserError
from gatewayfs.refresh.looking import Look, Outcome
from gatewayfs.refresh.notices import BadMessage, Notice, read

log = logging.getLogger(__name__)

PATIENCE_S = 10.0
"""How long to wait for a write of our own at the same key, and for what was made or moved here to settle."""

PAUSE_S = 0.25
FAILURES_SHOWN = 20


class LookingAgain:
    """Answers look-again.

    Args:
        look: ``Refresh.look_again``.
    """

    def __init__(self, look: Look, bucket: str, prefix: str) -> None:
        self._look, self._bucket, self._prefix = look, bucket, prefix

    async def handle(self, args: dict[str, Any], progress: Tell) -> dict[str, Any]:
        """``control.calls.LookArguments`` -> ``LookResult``."""
        result = {"looked": 0, "unaffected": 0, "waiting": 0, "ignored": 0, "bad": 0, "failed": 0}
        notices: dict[str, Notice] = {}
        for path in _texts(args, "paths"):
            for key in (self._prefix + path, f"{self._prefix}{path}/" if path else ""):
                if key:
                    notices[key] = Notice(key)
        for message in _texts(args, "messages"):
            try:
                reading = read(message, self._bucket, self._prefix)
            except BadMessage as problem:
                log.warning("a message for look-again is no notification: %s", problem)
                result["bad"] += 1
                continue
            result["ignored"] += reading.ignored
            for notice in reading.notices:
                notices[notice.key] = notice if notice.key not in notices else Notice(notice.key)
        failures: list[str] = []
        async with trio.open_nursery() as nursery:
            for notice in notices.values():
                nursery.start_soon(self._one, notice, result, failures, progress)
        return {**result, "failures": failures[:FAILURES_SHOWN]}

    async def _one(self, notice: Notice, result: dict[str, int], failures: list[str], progress: Tell) -> None:
        until = trio.current_time() + PATIENCE_S
        try:
            while (outcome := await self._look(notice)) in (Outcome.BUSY, Outcome.MOVING):
                if trio.current_time() > until:
                    break
                await trio.sleep(PAUSE_S)
        except (StoreError, FsError, LocalError) as problem:
            result["failed"] += 1
            failures.append(f"{notice.key}: {problem}")
        else:
            result[_WORDS[outcome]] += 1
        progress(dict(result))  # a caller that hears nothing for long gives up


_WORDS = {
    Outcome.LOOKED: "looked",
    Outcome.NOTHING: "unaffected",
    Outcome.ODD: "ignored",
    Outcome.BUSY: "waiting",
    Outcome.MOVING: "waiting",
}


def _texts(args: dict[str, Any], name: str) -> list[str]:
    values = args.get(name) or []
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise UserError(f"{name} must be a list of texts")
    return values
