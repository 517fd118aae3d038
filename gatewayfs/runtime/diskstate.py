"""How well the cache disk does, by what was seen of it.        [pure]

    NORMAL     all is well
    UNSTABLE   it answers slowly, or with errors now and then: what the bucket has too is read there
    HANGING    it does not answer: as UNSTABLE, and changes wait
    READ_ONLY  it does not keep what it is given: as UNSTABLE, and changes are refused

                 slow, errors                  nothing but good probes, for a while
      NORMAL ────────────────────> UNSTABLE ────────────────────────────────────────> NORMAL
        └──────────┬──────────────────┤ <── it answers ──────────── HANGING
                   │                  │ <── GOOD_PROBES in a row ─┐
                   └─ no answer ──────┴─> HANGING               READ_ONLY <── (from anywhere) a probe failed, two
                                                                              writes, or records cannot be committed

One error or one slow answer changes little, a state is left only after several good answers in a row, and the longer
is waited for NORMAL the more often it was left: a disk that comes and goes is no disk. A *probe* is a small write, its
sync and its reading back (``diskhealth.py``), made as long as anything is suspicious.
"""

import enum
from dataclasses import dataclass, field, replace

WINDOW_S = 60.0
"""Errors further apart than this have nothing to do with each other."""

WRITE_ERRORS, READ_ERRORS = 2, 3
"""So many in the window change the state. One bad sector is no bad disk, and its file is read from the bucket."""

SLOW_PROBE_S = 0.5
"""An SSD takes milliseconds for 4 KiB and their sync, a hard disk that is busy a tenth of a second."""

SLOW_PROBES = 2
"""So many in a row."""

STUCK_S = 2.0
"""A probe without an answer for so long: the disk hangs. Well below the 5 s after which ext4's journal, too, waits for
the disk, and with it everybody who changes a file."""

GOOD_PROBES = 3
"""In a row, before changes are taken again."""

CALM_S, CALM_S_MAX = 5.0, 300.0
"""How long all must be well before the state is NORMAL again; doubled at each relapse."""

RELAPSE_S = 900.0
"""A failure within so long after the last recovery is a relapse."""


class Condition(enum.StrEnum):
    """What can be expected of the disk."""

    NORMAL = "normal"
    UNSTABLE = "unstable"
    HANGING = "hanging"
    READ_ONLY = "read-only"


@dataclass(frozen=True, slots=True)
class ReadFailed:
    """A read of a cache file failed."""

    why: str


@dataclass(frozen=True, slots=True)
class WriteFailed:
    """A write, sync or commit failed; not because the disk is full."""

    why: str


@dataclass(frozen=True, slots=True)
class ProbeAnswered:
    """A probe went well."""

    took_s: float


@dataclass(frozen=True, slots=True)
class ProbeFailed:
    """A probe got an error, or read something else than it had written."""

    why: str


@dataclass(frozen=True, slots=True)
class ProbeWaits:
    """A probe has had no answer for ``STUCK_S``."""


@dataclass(frozen=True, slots=True)
class Unkept:
    """What of ours the disk does not keep: records that cannot be committed, bytes that were lost; "": nothing (any
    more)."""

    why: str


Event = ReadFailed | WriteFailed | ProbeAnswered | ProbeFailed | ProbeWaits | Unkept


@dataclass(frozen=True, slots=True)
class DiskState:
    """One moment.

    Attributes:
        since_s: when the condition came; all times are of one monotonic clock.
        why: what brought it.
        unkept: see ``Unkept``; keeps the condition at READ_ONLY.
        good, slow: probes in a row; calm_from_s: the first of the good ones.
        calm_s: how long all must be well before it is NORMAL.
        recovered_s: when it became NORMAL the last time.
    """

    condition: Condition = Condition.NORMAL
    since_s: float = 0.0
    why: str = ""
    unkept: str = ""
    read_errors_s: tuple[float, ...] = field(default=(), repr=False)
    write_errors_s: tuple[float, ...] = field(default=(), repr=False)
    good: int = 0
    slow: int = 0
    calm_from_s: float = 0.0
    calm_s: float = CALM_S
    recovered_s: float = -RELAPSE_S

    @property
    def suspicious(self) -> bool:
        """Probes are wanted."""
        return self.condition is not Condition.NORMAL or bool(self.slow or self.read_errors_s or self.write_errors_s)


def after(state: DiskState, event: Event, now_s: float) -> DiskState:
    """The state once ``event`` was seen at ``now_s``. The only way from one to another."""
    match event:
        case ProbeAnswered(took_s):
            return _slow(state, took_s, now_s) if took_s > SLOW_PROBE_S else _good(state, now_s)
        case ReadFailed(why):
            errors = _recent(state.read_errors_s, now_s, READ_ERRORS)
            state = replace(state, good=0, read_errors_s=errors)
            return _worse(state, Condition.UNSTABLE, why, now_s) if len(errors) >= READ_ERRORS else state
        case WriteFailed(why):
            errors = _recent(state.write_errors_s, now_s, WRITE_ERRORS)
            state = replace(state, good=0, write_errors_s=errors)
            refuses = len(errors) >= WRITE_ERRORS
            return _worse(state, Condition.READ_ONLY if refuses else Condition.UNSTABLE, why, now_s)
        case ProbeFailed(why):
            return _worse(replace(state, good=0), Condition.READ_ONLY, why, now_s)
        case ProbeWaits():
            return _worse(replace(state, good=0), Condition.HANGING, "it does not answer", now_s)
        case Unkept(why):
            state = replace(state, unkept=why)
            return _worse(replace(state, good=0), Condition.READ_ONLY, why, now_s) if why else state


_BADNESS = {Condition.NORMAL: 0, Condition.UNSTABLE: 1, Condition.HANGING: 2, Condition.READ_ONLY: 3}


def _worse(state: DiskState, condition: Condition, why: str, now_s: float) -> DiskState:
    """At least as bad as ``condition``."""
    if _BADNESS[state.condition] >= _BADNESS[condition]:
        return state
    calm_s = state.calm_s
    if state.condition is Condition.NORMAL:
        relapse = now_s - state.recovered_s < RELAPSE_S
        calm_s = min(calm_s * 2, CALM_S_MAX) if relapse else CALM_S
    return replace(state, condition=condition, since_s=now_s, why=why, calm_s=calm_s)


def _slow(state: DiskState, took_s: float, now_s: float) -> DiskState:
    state = replace(state, good=0, slow=state.slow + 1)
    if state.condition is Condition.HANGING:
        return _better(state, Condition.UNSTABLE, now_s)
    if state.slow < SLOW_PROBES:
        return state
    return _worse(state, Condition.UNSTABLE, f"it takes {took_s:.1f} s for 4 KiB", now_s)


def _good(state: DiskState, now_s: float) -> DiskState:
    calm_from_s = state.calm_from_s if state.good else now_s
    state = replace(state, good=state.good + 1, slow=0, calm_from_s=calm_from_s)
    if state.condition is Condition.HANGING:
        return _better(state, Condition.UNSTABLE, now_s)
    if state.condition is Condition.READ_ONLY and state.good >= GOOD_PROBES and not state.unkept:
        return _better(state, Condition.UNSTABLE, now_s)
    # With a single error the state is NORMAL still, and suspicious: the same calm ends that.
    if state.condition in (Condition.NORMAL, Condition.UNSTABLE) and now_s - calm_from_s >= state.calm_s:
        well = replace(state, read_errors_s=(), write_errors_s=())
        return well if state.condition is Condition.NORMAL else _better(well, Condition.NORMAL, now_s)
    return state


def _better(state: DiskState, condition: Condition, now_s: float) -> DiskState:
    recovered_s = now_s if condition is Condition.NORMAL else state.recovered_s
    why = "" if condition is Condition.NORMAL else state.why
    return replace(
        state, condition=condition, since_s=now_s, why=why, write_errors_s=(), good=0, recovered_s=recovered_s
    )


def _recent(times_s: tuple[float, ...], now_s: float, wanted: int) -> tuple[float, ...]:
    """The latest errors of the window, this one included; no more than decide."""
    return tuple(time_s for time_s in (*times_s, now_s) if now_s - time_s < WINDOW_S)[-wanted:]
