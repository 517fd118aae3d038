"""Who keeps the name, and names that always fit."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from gatewayfs.conflict import Policy, Verdict, conflict_name, judge

WHEN_NS = 1_767_323_045 * 1_000_000_000
FLAGS = ("there", "moved", "content_changed", "attributes_changed", "resident")


def test_the_name_says_whose_and_when():
    assert conflict_name(b"report.txt", "berlin", WHEN_NS) == b"report.txt.conflict-berlin-20260102T030405Z"
    assert conflict_name(b"report.txt", "berlin", WHEN_NS, 2) == b"report.txt.conflict-berlin-20260102T030405Z-2"


def test_a_gateway_name_cannot_smuggle_in_a_slash():
    assert b"/" not in conflict_name(b"a", "../x/é", WHEN_NS)


@given(st.text(min_size=1, max_size=300), st.text(max_size=100), st.integers(0, 10**6), st.integers(100, 255))
def test_every_name_fits_and_is_text(name, gateway, attempt, length_max):
    made = conflict_name(name.encode(errors="replace"), gateway, WHEN_NS, attempt, length_max)
    assert len(made) <= max(length_max, 0) or length_max < 110
    made.decode()


def test_every_situation_has_a_verdict_that_loses_nothing():
    for policy in Policy:
        for values in itertools.product([False, True], repeat=len(FLAGS)):
            facts = dict(zip(FLAGS, values, strict=True))
            verdict = judge(**facts, policy=policy)
            if verdict is Verdict.VANISHED:
                assert not facts["content_changed"], "new bytes never vanish"
                assert not facts["resident"]
                assert not facts["there"]
            if verdict in (Verdict.TAKE_THEIRS, Verdict.FOLLOW, Verdict.KEEP_OUR_ATTRIBUTES):
                assert not facts["content_changed"], "new bytes are never replaced by theirs"
            if facts["there"] and facts["content_changed"] and facts["resident"]:
                assert verdict in (Verdict.KEEP_BOTH, Verdict.LEAVE_THEIRS)
