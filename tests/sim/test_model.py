"""Random programs against the model.

A normal run takes the same programs every time, so that it fails only where a change is to blame; ``make hunt`` looks
for new ones. A failure prints the shortest program found, which then moves to test_regressions.py under a name of its
own.
"""

import math
import os

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.sim import steps
from tests.sim.posixmodel import DIRECTORY, FIFO, SYMLINK
from tests.sim.program import perform
from tests.sim.world import PART_BYTES, SMALL_FILE_BYTES

HUNT = int(os.environ.get("GATEWAYFS_SIM_EXAMPLES", "0"))
"""So many programs nobody has tried yet, instead of the usual ones."""

EXAMPLES = 200
"""Of a normal run: some 10 s per test."""

names = st.sampled_from([b"a", b"b", b"c", "é".encode()])
numbers = st.integers(0, 7)
slots = st.integers(0, 2)
offsets = st.sampled_from([0, 1, SMALL_FILE_BYTES - 1, SMALL_FILE_BYTES, PART_BYTES, 3 * PART_BYTES])
lengths = st.sampled_from([1, 10, SMALL_FILE_BYTES, SMALL_FILE_BYTES + 1, 2 * PART_BYTES + 7])
sizes = st.sampled_from([0, 1, 40, SMALL_FILE_BYTES, SMALL_FILE_BYTES + 1, 2 * PART_BYTES, 1000])
turns = st.integers(1, 30)
schedules = st.integers(0, 99)
operations = st.sampled_from(
    ["put", "copy", "delete", "delete_many", "create_multipart", "upload_part", "complete_multipart", "head"]
)

posix = st.one_of(
    st.builds(steps.Create, numbers, names, slots, st.booleans(), st.booleans()),
    st.builds(steps.Open, numbers, slots, st.booleans(), st.booleans()),
    st.builds(steps.Write, slots, offsets, lengths, st.sampled_from([65, 66, 67])),
    st.builds(steps.Write, slots, offsets, lengths, st.sampled_from([65, 66, 67])),
    st.builds(steps.Read, slots, offsets, lengths),
    st.builds(steps.WriteWhileRead, numbers, st.integers(0, 8), offsets, lengths),
    st.builds(steps.Sync, slots, st.booleans()),
    st.builds(steps.Close, slots),
    st.builds(steps.Truncate, numbers, sizes),
    st.builds(steps.Make, st.sampled_from([DIRECTORY, SYMLINK, FIFO, DIRECTORY]), numbers, names),
    st.builds(steps.Remove, numbers, st.booleans()),
    st.builds(steps.Rename, numbers, numbers, names, st.booleans(), st.booleans()),
    st.builds(steps.Rename, numbers, numbers, names),
    st.builds(
        steps.SetAttributes,
        numbers,
        st.sampled_from([None, 0o600, 0o755, 0o1777]),
        st.sampled_from([None, 0, 4321]),
        st.sampled_from([None, 1, 1_234_567_890_123_456_789]),
    ),
    st.builds(
        steps.Xattr, numbers, st.sampled_from([b"user.a", b"user.b"]), st.sampled_from([None, b"", b"v", b"\xff"])
    ),
)
around = st.one_of(
    st.builds(steps.Breathe, turns),
    st.builds(steps.Wait, st.sampled_from([0.5, 3.0, 100.0])),
    st.builds(steps.Drain),
    st.builds(steps.StartDrain, turns),
    st.builds(steps.Hold, numbers),
    st.builds(steps.Restart, st.booleans()),
    st.builds(steps.Evict, numbers, st.booleans()),
    st.builds(steps.Disconnect),
    st.builds(steps.Trouble, operations, st.booleans(), st.integers(0, 3)),
    st.builds(steps.ForeignPut, numbers, names, lengths, st.sampled_from([None, 0o600, 0o640]), st.booleans()),
    st.builds(steps.ForeignDelete, numbers, st.booleans()),
    st.builds(steps.Refresh, numbers, st.booleans()),
)

# Lists of lists, because hypothesis makes a list of steps six long on average, and then most would not do anything.
programs = st.lists(st.lists(st.one_of(posix, posix, around), max_size=12), max_size=12).map(
    lambda chapters: [step for chapter in chapters for step in chapter]
)

keys = st.sampled_from(
    [f"{a}{b}{c}" for a in ("a", "b", "c") for b in ("", "/a", "/b") for c in ("", "/", "/a", "/b/", "/b/c")]
)

thorough = settings(
    max_examples=HUNT or EXAMPLES,
    derandomize=not HUNT,
    report_multiple_bugs=False,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@thorough
@given(programs, st.sampled_from(["", "some/prefix/"]), st.sampled_from([math.inf, 1, 1000, 12_000]), schedules)
def test_every_program_does_what_posix_says_and_ends_in_the_bucket(
    program: list[steps.Step], prefix: str, cache_bytes: float, schedule: int
) -> None:
    perform(program, prefix, cache_bytes=cache_bytes, schedule=schedule)


@thorough
@given(programs, st.lists(keys, min_size=1, max_size=10, unique=True), schedules)
def test_a_bucket_full_of_what_nobody_has_looked_at_yet(
    program: list[steps.Step], existing: list[str], schedule: int
) -> None:
    # Without the store nothing can be known about what was never looked at.
    known = [step for step in program if not isinstance(step, steps.Disconnect)]
    perform(known, existing=existing, schedule=schedule)
