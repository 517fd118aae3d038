"""The states of a cache disk: what leads where, and that nothing flaps."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from gatewayfs.runtime.diskstate import (
    CALM_S,
    CALM_S_MAX,
    GOOD_PROBES,
    READ_ERRORS,
    SLOW_PROBE_S,
    SLOW_PROBES,
    WINDOW_S,
    WRITE_ERRORS,
    Condition,
    DiskState,
    ProbeAnswered,
    ProbeFailed,
    ProbeWaits,
    ReadFailed,
    Unkept,
    WriteFailed,
    after,
)

GOOD, SLOW = ProbeAnswered(0.001), ProbeAnswered(SLOW_PROBE_S * 2)
BAD = (SLOW, ReadFailed("r"), WriteFailed("w"), ProbeFailed("p"), ProbeWaits(), Unkept("u"))
events = st.lists(st.tuples(st.sampled_from((GOOD, GOOD, GOOD, Unkept(""), *BAD)), st.floats(0, 20)), max_size=60)


def run(steps, state=None, now_s=1000.0):
    """The states on the way, the first included, each with its time and the event that led there."""
    state = state or DiskState()
    states = [(now_s, None, state)]
    for event, pause_s in steps:
        now_s += pause_s
        state = after(state, event, now_s)
        states.append((now_s, event, state))
    return states


@given(events)
def test_changes_are_taken_again_only_after_good_probes_in_a_row_and_with_nothing_unkept(steps):
    good = 0
    for (_, _, before), (_, event, state) in zip(states := run(steps), states[1:], strict=False):
        good = good + 1 if event == GOOD else good if event == Unkept("") else 0
        if before.condition is Condition.READ_ONLY and state.condition is not Condition.READ_ONLY:
            assert state.condition is Condition.UNSTABLE
            assert good >= GOOD_PROBES
            assert not state.unkept
        if state.unkept:
            assert state.condition is Condition.READ_ONLY


@given(events)
def test_normal_comes_back_only_after_a_calm_without_anything_bad(steps):
    worst_s = 0.0
    for (_, _, before), (now_s, event, state) in zip(states := run(steps), states[1:], strict=False):
        if event in BAD:
            worst_s = now_s
        if before.condition is not Condition.NORMAL and state.condition is Condition.NORMAL:
            assert before.condition is Condition.UNSTABLE
            assert event == GOOD
            assert now_s - worst_s >= state.calm_s >= CALM_S


@given(events)
def test_from_everywhere_good_answers_lead_back(steps):
    now_s, _, state = run(steps)[-1]
    ends = run([(Unkept(""), 0.0), *[(GOOD, 1.0)] * int(CALM_S_MAX + 2 * GOOD_PROBES)], state, now_s)[-1][2]
    assert ends.condition is Condition.NORMAL
    assert not ends.suspicious


@given(events)
def test_bookkeeping_stays_small_and_a_new_state_tells_since_when_and_why(steps):
    for (_, _, before), (now_s, _, state) in zip(states := run(steps), states[1:], strict=False):
        assert len(state.read_errors_s) <= READ_ERRORS
        assert len(state.write_errors_s) <= WRITE_ERRORS
        assert CALM_S <= state.calm_s <= CALM_S_MAX
        if state.condition is not before.condition:
            assert state.since_s == now_s
        assert bool(state.why) == (state.condition is not Condition.NORMAL)


def condition(*events, pause_s=1.0):
    return run([(event, pause_s) for event in events])[-1][2].condition


def test_one_error_is_no_failing_disk_and_several_are():
    assert condition(ReadFailed("x")) is Condition.NORMAL
    assert condition(*[ReadFailed("x")] * READ_ERRORS) is Condition.UNSTABLE
    assert condition(*[ReadFailed("x")] * READ_ERRORS * 3, pause_s=WINDOW_S) is Condition.NORMAL
    assert condition(WriteFailed("x")) is Condition.UNSTABLE
    assert condition(*[WriteFailed("x")] * WRITE_ERRORS) is Condition.READ_ONLY
    assert condition(*[SLOW] * (SLOW_PROBES - 1), GOOD, SLOW) is Condition.NORMAL
    assert condition(*[SLOW] * SLOW_PROBES) is Condition.UNSTABLE
    assert condition(ProbeFailed("x")) is Condition.READ_ONLY


def test_a_disk_that_hung_takes_changes_as_soon_as_it_answers_but_is_not_trusted_at_once():
    assert condition(ProbeWaits()) is Condition.HANGING
    assert condition(ProbeWaits(), SLOW) is Condition.UNSTABLE
    assert condition(ProbeWaits(), GOOD) is Condition.UNSTABLE
    assert condition(ProbeWaits(), *[GOOD] * 10) is Condition.NORMAL
    assert condition(ProbeFailed("x"), ProbeWaits()) is Condition.READ_ONLY, "hanging is no better than failing"


def test_a_disk_that_comes_and_goes_is_trusted_less_each_time():
    state, now_s, calms = DiskState(), 0.0, []
    for _ in range(10):
        state = after(state, ProbeWaits(), now_s)
        calms.append(state.calm_s)
        while state.condition is not Condition.NORMAL:
            now_s += 1
            state = after(state, GOOD, now_s)
    assert calms == sorted(calms)
    assert calms[0] == CALM_S
    assert calms[-1] == CALM_S_MAX
    later = after(replace(state, recovered_s=now_s - 10_000), ProbeWaits(), now_s)
    assert later.calm_s == CALM_S, "long ago is forgotten"
