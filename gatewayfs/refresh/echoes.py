"""Notices of what this gateway did itself: each of our writes comes back as one, and needs no look at the bucket.

What a notice says proves nothing, so "that was us" is counted, not concluded: each write of ours is good for one notice
that names the etag we wrote. If others changed the object's metadata in between, which leaves the etag as it is, there
is a notice more than writes of ours, and one of them leads to a look, whichever comes first.

Bounded and short-lived: a write that nobody told of within ``LIFE_S`` never will be, and forgetting one costs a HEAD.
"""

from collections import OrderedDict

import trio

LIFE_S = 600.0
"""Queues deliver within seconds as a rule; AWS says "typically seconds, sometimes a minute or longer"."""

KEYS_MAX = 20_000
"""About 4 MB; ten minutes of 30 uploads a second."""


class Echoes:
    """Counts our own writes until notices of them have come. Everything on the loop's thread."""

    def __init__(self) -> None:
        self.expected = False
        """Whether notices will come at all; without them nothing is counted."""
        self._writes: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Echoes of {len(self._writes)} keys>"

    def wrote(self, key: str) -> None:
        """A request of ours changed ``key``."""
        if not self.expected:
            return
        count, _ = self._writes.pop(key, (0, 0.0))
        self._writes[key] = (count + 1, trio.current_time())
        if len(self._writes) > KEYS_MAX:
            self._writes.popitem(last=False)

    def is_ours(self, key: str) -> bool:
        """Whether a notice with the etag we know may be of a write of ours; it is used up by this."""
        count, when = self._writes.pop(key, (0, 0.0))
        if count > 1:
            self._writes[key] = (count - 1, when)
        return count > 0 and trio.current_time() - when < LIFE_S
