"""How often the cache is scrubbed, what a pass found, and how far it is: settings and records of ``scrub.py``."""

from dataclasses import dataclass

import msgspec

from gatewayfs.cache.fences import Fences

SETTING = "scrub"
"""Name of the record."""


class Tally(msgspec.Struct):
    """What one pass found."""

    started_ns: int = 0
    ended_ns: int = 0
    """0 while it is under way."""
    files: int = 0
    checked_bytes: int = 0
    unvouched_bytes: int = 0
    """Here, and there is nothing to compare them with."""
    dropped: int = 0
    """Damaged blocks that the bucket has, too: the next read fetches them."""
    fenced: int = 0
    """Damaged blocks that are only here."""
    rewritten: int = 0
    """Blocks the disk had wrong and memory right."""
    unreadable: int = 0
    """Blocks the disk did not give."""


class Marks(msgspec.Struct):
    """What is recorded: the pass under way, how far it is, and the one before."""

    now: Tally = msgspec.field(default_factory=Tally)
    last: Tally = msgspec.field(default_factory=Tally)
    after: int = 0
    """The pass has done all inodes up to this number."""
    ino: int = 0
    offset: int = 0
    """And so many bytes of this one."""


@dataclass(frozen=True, slots=True)
class ScrubSettings:
    """``rate_bytes_per_s`` 0: never; ``interval_s``: from the beginning of one pass to that of the next."""

    rate_bytes_per_s: int = 0
    interval_s: float = 7 * 86400.0


NO_SCRUB = ScrubSettings()


def report(tally: Tally, fences: Fences) -> dict[str, object]:
    """A whole pass as ``gatewayfs check --scrub`` answers it: what is wrong, one line each, and how much was read."""
    problems = [
        f"{each.key}: {each.size_bytes} damaged bytes that are not in the bucket: write it anew, or remove it"
        for each in fences.files()
    ]
    counts = (
        (tally.dropped, "damaged blocks that the bucket has, too: they left the cache and are fetched again"),
        (tally.rewritten, "blocks the disk had wrong and memory right: they were written again"),
        (tally.unreadable, "blocks that are only here and cannot be read: the log names them"),
    )
    problems += [f"{count} {what}" for count, what in counts if count]
    return {"problems": problems, **msgspec.structs.asdict(tally)}
