"""One question instead of a storm: is the store back?        [pure]

When the store cannot be reached, or refuses our credentials, every entry of the queue would fail in turn. The first
such failure closes the gate; from then on a single entry at a time is tried, with pauses that grow, and any answer of
the store opens it again. The entries that did not get through keep their place and are not punished.
"""

from dataclasses import dataclass

from gatewayfs.upload.settings import Randomness

FIRST_PAUSE_S = 1.0


def backoff_s(attempts: int, longest_s: float, rng: Randomness) -> float:
    """Exponential back-off with full jitter: between 1 s and 2^attempts s, never more than ``longest_s``."""
    highest = min(longest_s, FIRST_PAUSE_S * 2.0 ** min(attempts, 30))
    return rng.uniform(min(FIRST_PAUSE_S, highest), highest)


@dataclass(frozen=True, slots=True)
class Unreachable:
    """Since when, and why, nothing gets through."""

    since_ns: int
    reason: str


class Gate:
    """Open, or closed with a time for the next probe."""

    def __init__(self, longest_pause_s: float, rng: Randomness) -> None:
        self._longest_pause_s = longest_pause_s
        self._rng = rng
        self._attempts = 0
        self.closed: Unreachable | None = None
        self.probe_at_s = 0.0

    def __repr__(self) -> str:
        return f"<Gate closed: {self.closed.reason}>" if self.closed else "<Gate open>"

    def unanswered(self, now_s: float, now_ns: int, reason: str) -> None:
        """A request found no store. Failures of requests that were already under way do not lengthen the pause."""
        if self.closed is None:
            self.closed = Unreachable(now_ns, reason)
            self._attempts = 0
        elif now_s < self.probe_at_s:
            return
        self._attempts += 1
        self.closed = Unreachable(self.closed.since_ns, reason)
        self.probe_at_s = now_s + backoff_s(self._attempts, self._longest_pause_s, self._rng)

    def answered(self) -> None:
        """The store said something, whatever it was."""
        self.closed = None

    def probe_now(self, now_s: float) -> None:
        """Somebody believes that it is back: do not wait for the pause to end."""
        self.probe_at_s = min(self.probe_at_s, now_s)
