"""Site ids and stored ids: nobody's file becomes somebody else's, whatever the table says."""

import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayfs.meta.schema import Inode
from gatewayfs.vfs.identity import NOBODY, Identity, Numbering, Squash

IDS = st.integers(0, 12) | st.just(NOBODY)
TABLES = st.lists(st.tuples(IDS, IDS), max_size=6, unique_by=(lambda pair: pair[0], lambda pair: pair[1])).map(dict)


@pytest.mark.parametrize(
    ("squash", "kept"),
    [(Squash.NONE, [0, 7, NOBODY]), (Squash.ROOT, [NOBODY, 7, NOBODY]), (Squash.ALL, [NOBODY] * 3)],
)
def test_squash_says_whose_files_are_kept_as_the_anonymous_users(squash: Squash, kept: list[int]) -> None:
    numbering = Numbering(squash)
    assert [numbering.stored(site) for site in (0, 7, NOBODY)] == kept


def test_what_the_bucket_says_is_not_squashed() -> None:
    assert Numbering(Squash.ALL).shown(0) == 0


def test_a_forced_owner_is_shown_and_kept_for_everything() -> None:
    numbering = Numbering(Squash.ALL, forced=1000, table={1000: 5001})
    assert {numbering.stored(site) for site in (0, 1, 1000)} == {5001}
    assert {numbering.shown(stored) for stored in (0, 5001, 9)} == {1000}
    assert numbering.inherited(9) == 5001


def test_squashed_owners_go_through_the_table_too() -> None:
    numbering = Numbering(Squash.ROOT, anonymous=99, table={99: 4099})
    assert numbering.stored(0) == 4099
    assert numbering.shown(4099) == 99


@given(TABLES, IDS)
def test_whoever_the_table_names_gets_back_what_is_theirs(table: dict[int, int], site: int) -> None:
    numbering = Numbering(anonymous=NOBODY, table=table)
    stored = numbering.stored(site)
    if site in table:
        assert stored == table[site]
        assert numbering.shown(stored) == site
    else:
        assert stored in (site, numbering.mapped(NOBODY))


@given(TABLES.filter(lambda table: NOBODY not in table.values() or NOBODY in table), st.data())
def test_two_people_never_share_a_file_by_accident(table: dict[int, int], data: st.DataObject) -> None:
    numbering = Numbering(anonymous=NOBODY, table=table)
    mine, yours = data.draw(IDS), data.draw(IDS)
    assert numbering.shown(numbering.stored(mine)) in (mine, NOBODY)
    if mine != yours and numbering.shown(mine) == numbering.shown(yours):
        assert numbering.shown(mine) == NOBODY
    if numbering.stored(mine) == numbering.stored(yours) and mine != yours:
        assert numbering.stored(mine) == numbering.stored(NOBODY)


def test_the_umask_is_taken_from_everything_but_symlinks() -> None:
    def inode(mode: int) -> Inode:
        return Inode(ino=2, parent=1, name=b"f", mode=mode, uid=3, gid=4, size=0, atime_ns=0, mtime_ns=0, ctime_ns=0)

    rules = Identity(umask=0o027)
    assert rules.shown(inode(stat.S_IFREG | 0o4777)) == (stat.S_IFREG | 0o4750, 3, 4)
    assert rules.shown(inode(stat.S_IFLNK | 0o777)) == (stat.S_IFLNK | 0o777, 3, 4)
