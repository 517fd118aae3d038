"""Which step comes next, for every way an inode can differ from the bucket."""

import stat

import msgspec
import pytest

from gatewayfs.meta.schema import Directory, Doomed, Inode, Remote
from gatewayfs.s3.store import Condition
from gatewayfs.upload.plan import (
    CleanUp,
    Copy,
    Learn,
    Rescue,
    SendContent,
    SendSmall,
    Settled,
    Situation,
    VisitChildren,
    WaitFor,
    differs,
    next_step,
)

replace = msgspec.structs.replace
REMOTE = Remote("a", "etag-a", 5, 0, content_revision=3, meta_revision=2)
ABSENT = Condition(absent=True)


def file(**changes):
    inode = Inode(
        7, 1, b"a", stat.S_IFREG | 0o644, 0, 0, 5, 1, 1, 1, content_revision=3, meta_revision=2, remote=REMOTE
    )
    return replace(inode, **changes)


def directory(**changes):
    details = Directory(complete=True, marker_wanted=True)
    inode = Inode(8, 1, b"d", stat.S_IFDIR | 0o755, 0, 0, 0, 1, 1, 1, directory=details)
    return replace(inode, **changes)


def symlink(**changes):
    return replace(Inode(9, 1, b"l", stat.S_IFLNK | 0o777, 0, 0, 2, 1, 1, 1, target=b"to"), **changes)


MARKER = Remote("d/", "etag-d", 0, 0, 1, 1)

FULL_MARKER = replace(MARKER, size=9)

CASES = [
    ("nothing", file(), "a", Settled()),
    ("a new file", file(remote=None), "a", SendContent("a", ABSENT)),
    ("new bytes", file(content_revision=4), "a", SendContent("a", Condition(match="etag-a"))),
    ("new bytes and name", file(content_revision=4), "b", SendContent("b", ABSENT)),
    ("a new name", file(), "b", Copy(REMOTE, "b", ABSENT, rewrite=True)),
    ("a new name, attributes unread", file(attributes_known=False), "b", Learn()),
    ("attributes", file(meta_revision=3), "a", Copy(REMOTE, "a", Condition(match="etag-a"), rewrite=True)),
    ("attributes and name", file(meta_revision=3), "b", Copy(REMOTE, "b", ABSENT, rewrite=True)),
    ("attributes over unread ones", file(meta_revision=3, attributes_known=False), "a", Learn()),
    ("bytes over unread attributes", file(content_revision=4, attributes_known=False), "a", Learn()),
    ("no name", file(), None, CleanUp()),
    ("a new directory", directory(), "d/", SendSmall("d/", b"", ABSENT)),
    ("a settled directory", directory(remote=MARKER), "d/", Settled()),
    ("a moved marker", directory(remote=MARKER), "e/", SendSmall("e/", b"", ABSENT)),
    (
        "a moved marker with data in it",
        directory(remote=FULL_MARKER),
        "e/",
        Copy(FULL_MARKER, "e/", ABSENT, rewrite=True),
    ),
    ("no marker wanted", directory(directory=Directory()), "d/", Settled()),
    ("a renamed directory", directory(directory=Directory(children_unsettled=True)), "e/", VisitChildren()),
    ("the root of a bucket", directory(ino=1, parent=0), "", Settled()),
    ("a new symlink", symlink(), "l", SendSmall("l", b"to", ABSENT)),
    (
        "a symlink whose target was never read",
        symlink(remote=Remote("l", "e", 2, 0, 1, 1), target=None),
        "m",
        Copy(Remote("l", "e", 2, 0, 1, 1), "m", ABSENT, rewrite=True),
    ),
]


@pytest.mark.parametrize(("what", "inode", "key", "step"), CASES, ids=[case[0] for case in CASES])
def test_the_step(what, inode, key, step):
    assert next_step(Situation(inode, key)) == step


@pytest.mark.parametrize(("what", "inode", "key", "step"), CASES, ids=[case[0] for case in CASES])
def test_settled_exactly_when_nothing_differs(what, inode, key, step):
    if key is not None:
        assert differs(inode, key) is (step != Settled())


def test_a_doomed_object_at_the_wanted_key_is_replaced_if_it_is_still_that_one():
    step = next_step(Situation(file(remote=None), "a", doomed=Doomed("a", "doomed", 1)))
    assert step == SendContent("a", Condition(match="doomed"))


def test_a_key_that_holds_the_bytes_of_a_named_inode_is_waited_for():
    other = file(ino=8, name=b"b")
    assert next_step(Situation(file(remote=None), "a", holder=other)) == WaitFor(8)


def test_an_unlinked_holder_is_replaced_once_its_readers_have_their_bytes():
    ghost = file(ino=8, parent=0, name=b"")
    assert next_step(Situation(file(remote=None), "a", holder=ghost, holder_reads=True)) == Rescue(8)
    step = next_step(Situation(file(remote=None), "a", holder=ghost))
    assert step == SendContent("a", Condition(match="etag-a"))
