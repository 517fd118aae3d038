"""The log of our own changes, and the set of seen inodes."""

from hypothesis import given
from hypothesis import strategies as st

from gatewayfs.refresh.inoset import InoSet
from gatewayfs.refresh.own import OwnRequests


def test_what_changed_after_a_mark_is_remembered_for_it_and_only_for_it():
    own = OwnRequests()
    own.note("before")
    with own.mark() as first:
        own.note("a")
        with own.mark() as second:
            own.note("b")
            own.note("a")
            assert own.changed("b", second)
            assert own.changed("a", second)
            assert own.since(second) == ["a", "b"]
        assert own.since(first) == ["a", "b"]
        assert not own.changed("before", first)
        with own.mark() as third:
            assert not own.changed("a", third)
            assert own.since(third) == []
    assert repr(own) == "<OwnRequests 0 keys, 0 marks>"


def test_nothing_is_remembered_while_nobody_asks():
    own = OwnRequests()
    for number in range(1000):
        own.note(str(number))
    assert repr(own) == "<OwnRequests 0 keys, 0 marks>"


def test_when_too_much_happened_everything_may_have_changed():
    own = OwnRequests(limit=10)
    with own.mark() as old:
        for number in range(11):
            own.note(str(number))
        assert own.changed("never mentioned", old)
        assert own.since(old) is None
        with own.mark() as new:
            assert not own.changed("never mentioned", new)
            own.note("x")
            assert own.since(new) == ["x"]


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("note"), st.sampled_from("abc")),
            st.tuples(st.just("open"), st.just("")),
            st.tuples(st.just("close"), st.sampled_from("012")),
        ),
        max_size=40,
    )
)
def test_it_answers_like_a_log_kept_for_ever(steps):
    own, log, marks = OwnRequests(), [], []
    for action, argument in steps:
        if action == "note":
            own.note(argument)
            log.append(argument)
        elif action == "open":
            context = own.mark()
            marks.append((context, context.__enter__(), len(log)))
        elif marks:
            marks.pop(int(argument) % len(marks))[0].__exit__(None, None, None)
        for _, mark, place in marks:
            assert {key for key in "abc" if own.changed(key, mark)} == set(log[place:])
            assert set(own.since(mark)) == set(log[place:])


@given(st.sets(st.integers(1, 5000)), st.sets(st.integers(1, 5000)))
def test_a_set_of_inodes_is_a_set(members, others):
    inos = InoSet()
    for ino in members:
        inos.add(ino)
    assert {ino for ino in members | others if ino in inos} == members
    assert len(inos) == len(members)


def test_a_million_neighbours_take_few_blocks():
    inos = InoSet()
    for ino in range(10_000_000, 11_000_000):
        inos.add(ino)
    assert len(inos) == 1_000_000
    assert inos.blocks <= 1_000_000 // 256 + 1
