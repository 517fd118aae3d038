"""The options of identity: root squash is on, tables are bijections, and each mistake is told with its cure."""

import pytest

from gatewayfs.daemon.identifying import share_defaults
from tests.unit.config.test_load import loaded, mistakes_of


def test_root_squash_is_on_by_default() -> None:
    identity = loaded().identity
    assert (identity.squash, identity.anonymous_uid, identity.anonymous_gid) == ("root", 65534, 65534)
    assert (identity.force_uid, identity.force_gid, identity.force_umask) == (None, None, 0)
    assert (identity.uid_map, identity.gid_map) == ((), ())


def test_a_table_is_a_list_of_pairs() -> None:
    assert loaded("identity.uid_map=1000=5001, 1001 = 5002").identity.uid_map == ((1000, 5001), (1001, 5002))


def test_objects_without_an_owner_belong_to_who_is_named_here() -> None:
    defaults = share_defaults(loaded("identity.uid_map=1000=5001", "metadata.uid=1000", "metadata.gid=7"))
    assert (defaults.uid, defaults.gid) == (5001, 7)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (["share.read_only=yes", "s3.restore=bulk"], "share.read_only is set and s3.restore is bulk"),
        (["identity.squash=yes"], '"root" or "all" or "none"'),
        (["identity.anonymous_uid=0"], "too small; at least 1"),
        (["identity.force_umask=01777"], "too large; at most 0777"),
        (["identity.uid_map=1000"], "'1000' is not a pair of ids up to 4294967294"),
        (["identity.uid_map=1000=4294967295"], "is not a pair of ids up to 4294967294"),
        (["identity.uid_map=1=5,1=6"], '1 stands twice on the left, in "1=5" and "1=6"'),
        (["identity.gid_map=1=5,2=5"], '5 stands twice on the right, in "1=5" and "2=5"'),
        (["identity.uid_map=0=5"], "identity.uid_map names 0 and identity.squash is root"),
        (["identity.gid_map=5=0"], "identity.gid_map names 0 and identity.squash is root"),
        (["identity.force_uid=0"], "identity.force_uid is 0 and identity.squash is root"),
        (["identity.uid_map=1=65534", "metadata.uid=1"], "identity.anonymous_uid is 65534, which identity.uid_map"),
        (["identity.gid_map=1=7", "identity.force_gid=7"], "identity.force_gid is 7, which identity.gid_map already"),
        (["identity.gid_map=1=7", "metadata.gid=7"], "metadata.gid is 7, which identity.gid_map already uses"),
    ],
)
def test_mistakes_are_named_with_their_cure(settings: list[str], told: str) -> None:
    (line,) = mistakes_of(*settings)
    assert told in line


def test_without_squash_root_may_be_named() -> None:
    identity = loaded("identity.squash=none", "identity.force_uid=0", "identity.gid_map=0=5").identity
    assert (identity.force_uid, identity.gid_map) == (0, ((0, 5),))
