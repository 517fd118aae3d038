"""The counts of a directory's rename come out even, whatever order things happen in."""

from gatewayfs.upload.renames import RENAMES_MAX, Renames
from gatewayfs.upload.status import Renaming


def test_a_tree_is_one_rename_and_over_when_all_of_it_arrived() -> None:
    renames = Renames()
    renames.begun("a/", "b/")
    renames.found("b/", 2, 1)
    renames.visited("b/")
    renames.arrived("b/x")
    renames.arrived("b/y")
    assert renames.running(idle=False) == (Renaming("a/", "b/", 2, 2),)  # b/sub/ was not looked into
    renames.begun("a/sub/", "b/sub/")
    renames.found("b/sub/", 1, 0)
    renames.visited("b/sub/")
    assert renames.running(idle=False) == (Renaming("a/", "b/", 2, 3),)
    renames.arrived("b/sub/z")
    assert renames.running(idle=False) == ()


def test_what_is_renamed_again_replaces_the_earlier_rename() -> None:
    renames = Renames()
    for old, new in (("a/", "b/"), ("b/", "c/"), ("b/", "d/")):
        renames.begun(old, new)
        renames.found(new, 2, 0)
        assert renames.running(idle=False) == (Renaming(old, new, 0, 2),)


def test_a_walk_that_begins_again_counts_nothing_twice() -> None:
    renames = Renames()
    renames.begun("a/", "b/")
    renames.found("b/", 10, 0)
    renames.arrived("b/x")
    renames.begun("a/", "b/")
    renames.found("b/", 9, 0)
    assert renames.running(idle=False) == (Renaming("a/", "b/", 1, 10),)


def test_an_empty_queue_ends_every_rename_and_a_thousand_cost_nothing() -> None:
    renames = Renames()
    for number in range(1000):
        renames.begun(f"a{number}/", f"b{number}/")
    assert len(renames.running(idle=False)) == RENAMES_MAX
    assert renames.running(idle=True) == ()
