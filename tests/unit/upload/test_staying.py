"""Which names an exclude pattern means, and what is below what."""

import pytest

from gatewayfs.upload.staying import Excludes, is_below


@pytest.mark.parametrize(
    ("pattern", "matches", "others"),
    [
        (".nfs*", [".nfs1", "a/b/.nfs000", ".nfs/inside", "a/.nfs1/b"], ["nfs1", "a.nfs1", "a/x.nfs"]),
        ("*.tmp", ["a.tmp", "d/e.tmp"], ["a.TMP", "tmp", "a.tmp2"]),
        ("build/*.o", ["build/x.o", "build/deep/x.o"], ["x.o", "sub/build/x.o", "build/x.c"]),
        ("/cache/", ["cache", "cache/a"], ["a/cache", "cache2"]),
        ("a?c", ["abc", "x/abc/y"], ["ac", "abbc"]),
        ("[ab]", ["a", "b/c"], ["c"]),
    ],
)
def test_a_pattern_means_names_and_with_a_slash_paths_and_all_that_is_below(pattern, matches, others):
    excludes = Excludes((pattern,))
    assert [path for path in matches if not excludes.match(path)] == []
    assert [path for path in others if excludes.match(path)] == []


def test_without_patterns_nothing_is_excluded():
    assert not Excludes(()).match(".nfs1")


@pytest.mark.parametrize(
    ("path", "top", "below"),
    [
        ("a/b", "a", True), ("a", "a", True), ("ab", "a", False), ("a", "a/b", False), ("x", "", True),
        ("p", "p/", True), ("p/x", "p/", True), ("px", "p/", False),
    ],
)  # fmt: skip
def test_below(path, top, below):
    assert is_below(path, top) is below
