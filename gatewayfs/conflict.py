"""Who keeps the name when both sides changed a file, and what the other one is called.        [pure]

The uploader finds out that an object is not the one its record was based on; refresh finds out that an object changed
under a locally changed file. Both ask here, so both answer alike. Nothing here touches records or the bucket.
"""

from datetime import datetime, timedelta, timezone
from enum import Enum, StrEnum

from gatewayfs.types import NAME_BYTES_MAX

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)  # noqa: UP017 - datetime.UTC says the same, less clearly


class Policy(StrEnum):
    """Who keeps the name."""

    BUCKET_WINS = "bucket-wins"
    GATEWAY_WINS = "gateway-wins"


class Verdict(Enum):
    """What to do about an object that is not what our changes were based on."""

    SEND_AS_NEW = "their side deleted it, ours changed it: ours goes up again"
    VANISHED = "their side deleted it and no bytes are here: it is gone here too"
    FRAGMENT = "the bytes our changes were based on are gone: what is here is kept, the rest reads as zeros"
    FOLLOW = "their bytes, under our new name"
    TAKE_THEIRS = "their bytes and attributes; our change of attributes is dropped"
    KEEP_OUR_ATTRIBUTES = "their bytes, our attributes"
    KEEP_BOTH = "both have new bytes: one keeps the name, the other gets a conflict name"
    LEAVE_THEIRS = "their bytes stay at the old name, ours go to the new one"

    @property
    def word(self) -> str:
        """Like "keep-both"."""
        return self.name.lower().replace("_", "-")


def judge(
    *, there: bool, moved: bool, content_changed: bool, attributes_changed: bool, resident: bool, policy: Policy
) -> Verdict:
    """Decide about an object that others changed or deleted since we last knew it.

    Args:
        there: an object is still at the key (changed); False: it was deleted.
        moved: our side wants it at another key now.
        content_changed: our side has new bytes.
        attributes_changed: our side has new attributes.
        resident: all bytes of our version are on this machine.
    """
    if content_changed and not resident:
        return Verdict.FRAGMENT
    if not there:
        return Verdict.SEND_AS_NEW if resident else Verdict.VANISHED
    if content_changed:
        return Verdict.LEAVE_THEIRS if moved else Verdict.KEEP_BOTH
    if attributes_changed and policy is Policy.GATEWAY_WINS:
        return Verdict.KEEP_OUR_ATTRIBUTES
    return Verdict.FOLLOW if moved and not attributes_changed else Verdict.TAKE_THEIRS


def conflict_name(name: bytes, gateway: str, when_ns: int, attempt: int = 0, length_max: int = NAME_BYTES_MAX) -> bytes:
    """``report.txt`` -> ``report.txt.conflict-<gateway>-20260102T030405Z``; ``attempt`` > 0 tells further ones apart.

    The name is cut, between characters, where the whole would exceed ``length_max`` bytes.
    """
    when = _EPOCH + timedelta(seconds=when_ns // 1_000_000_000)
    clean = "".join(c if c.isascii() and (c.isalnum() or c in "-_.") else "-" for c in gateway)[:64] or "gateway"
    suffix = f".conflict-{clean}-{when:%Y%m%dT%H%M%SZ}{f'-{attempt}' if attempt else ''}".encode()
    return shortened(name, length_max - len(suffix)) + suffix


def shortened(name: bytes, length_max: int) -> bytes:
    """The longest beginning of UTF-8 text ``name`` with at most ``length_max`` bytes that cuts no character in two."""
    return name if len(name) <= length_max else name[: max(0, length_max)].decode(errors="ignore").encode()
