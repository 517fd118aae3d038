"""Other tools' attributes: read as their authors meant them, brought up to date in their own notation."""

import itertools
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayfs.s3.attributes import ShareDefaults, decode, encode, whole_metadata
from gatewayfs.s3.dialects import PosixAttributes, link_target, parse_mode, parse_time, renewed, rfc3339, seconds
from gatewayfs.s3.xattrs import metadata_from_xattrs, xattrs_from_metadata

DEFAULTS = ShareDefaults(file_mode=0o600, directory_mode=0o700, uid=5, gid=6)
MODIFIED_NS = 1_700_000_000_000_000_000
AT_NS = 981_173_106_789_123_456
AT = "981173106.789123456"
RFC = "2001-02-03T04:05:06.789123456Z"
NOW = PosixAttributes(stat.S_IFREG | 0o640, 7, 8, AT_NS, AT_NS + 1, AT_NS + 2)
FILE_TYPES = [stat.S_IFREG, stat.S_IFLNK, stat.S_IFSOCK, stat.S_IFIFO]

# As the tools themselves wrote them (s3fs 1.90, rclone 1.75) or their documentation says.
S3FS = {
    "mode": "33184",
    "uid": "1234",
    "gid": "2345",
    "mtime": AT,
    "atime": "1795541138.444777956",
    "ctime": "1795541180",
}
RCLONE = {"mode": "100640", "uid": "1234", "gid": "2345", "mtime": AT, "atime": RFC, "btime": "2026-11-24T17:23:26Z"}
GEESEFS = {"mode": "33184", "uid": "1234", "gid": "2345", "mtime": AT}
GSUTIL = {
    "goog-reserved-posix-mode": "640",
    "goog-reserved-posix-uid": "1234",
    "goog-reserved-posix-gid": "2345",
    "goog-reserved-file-mtime": "981173106",
}
TOOLS = {"s3fs": S3FS, "rclone": RCLONE, "geesefs": GEESEFS, "gsutil": GSUTIL}


def read(metadata, key="f", size=1):
    return decode(metadata, key=key, size=size, defaults=DEFAULTS, last_modified_ns=MODIFIED_NS)


@pytest.mark.parametrize("tool", TOOLS)
def test_what_a_tool_wrote_is_what_is_read(tool):
    found = read(TOOLS[tool])
    assert (found.mode, found.uid, found.gid) == (stat.S_IFREG | 0o640, 1234, 2345)
    assert found.mtime_ns == (AT_NS // 10**9 * 10**9 if tool == "gsutil" else AT_NS)


def test_rclone_alone_keeps_the_time_and_everything_else_is_the_default():
    assert read({"Mtime": AT}) == PosixAttributes(stat.S_IFREG | 0o600, 5, 6, AT_NS)
    assert read(RCLONE).btime_ns == 1_795_541_006 * 10**9
    assert read({"gcsfuse_mtime": RFC}).mtime_ns == AT_NS


def test_every_mode_of_every_type_is_read_in_either_notation():
    for kind, bits in itertools.product(FILE_TYPES, range(0o10000)):
        assert parse_mode(str(kind | bits), False) == (kind | bits, "d")
        assert parse_mode(f"{kind | bits:o}", False) == (kind | bits, "o")
        assert parse_mode(f"{kind | bits:07o}", False) == (kind | bits, "o")
    for bits in range(0o10000):
        assert parse_mode(str(stat.S_IFDIR | bits), True) == (stat.S_IFDIR | bits, "d")
        assert parse_mode(f"{stat.S_IFDIR | bits:o}", True) == (stat.S_IFDIR | bits, "o")
    for bits in range(0o1000):
        assert parse_mode(f"{bits:o}", False) == (bits, "o")


@pytest.mark.parametrize("kind", [stat.S_IFCHR, stat.S_IFBLK])
def test_no_mode_makes_a_device(kind):
    for bits, notation in itertools.product(range(0o10000), ("d", "o")):
        found = read({"mode": format(kind | bits, notation), "rdev": "2049"}, size=0)
        assert not stat.S_ISCHR(found.mode)
        assert not stat.S_ISBLK(found.mode)
        assert found.rdev == 0


@pytest.mark.parametrize(
    "metadata", [{"uid": "123", "gid": "4"}, {"uid": "123", "mode": "fast"}, {"mode": "33188", "uid": "-1"}]
)
def test_an_owner_without_a_mode_is_a_customers_number(metadata):
    assert (read(metadata).uid, read(metadata).gid) == (5, 6)


@pytest.mark.parametrize(
    ("text", "time_ns"),
    [
        ("0", 0),
        ("-1.5", -1_500_000_000),
        ("12.1234567891234", 12_123_456_789),
        ("1969-12-31T23:59:58.5Z", -1_500_000_000),
        ("2001-02-03T05:05:06+01:00", AT_NS // 10**9 * 10**9),
        *(
            (text, None)
            for text in ("", "now", "1e9", "nan", "9" * 13, "9" * 12, "2026-13-01T00:00:00Z", "9999-12-31T23:59:59Z")
        ),
        ("0001-01-01T00:00:00+23:59", None),
        ("1." + "9" * 40, None),
    ],
)
def test_times_are_seconds_or_rfc_3339(text, time_ns):
    assert parse_time(text) == time_ns


@given(st.integers(-(1 << 63), (1 << 63) - 1))
def test_times_survive_both_forms(time_ns):
    assert parse_time(seconds(time_ns)) == time_ns
    assert parse_time(rfc3339(time_ns)) == time_ns


# --------------------------------------------------------------------------- symlinks


@pytest.mark.parametrize(
    ("key", "metadata", "size"),
    [
        ("l", {"mode": "41471"}, 4),
        ("l", {"mode": "120777"}, 4),
        ("l.rclonelink", {"mtime": AT}, 4),
        ("l", {"goog-reserved-file-is-symlink": "true"}, 4),
        ("l", {"gcsfuse_symlink_target": "a/b"}, 0),
        ("l", {"--symlink-target": "a/b"}, 0),
    ],
)
def test_symlinks_of_others_are_symlinks(key, metadata, size):
    assert read(metadata, key, size).mode == stat.S_IFLNK | 0o777
    assert read(metadata, key, 5000).mode & ~0o777 == stat.S_IFREG, "no target is that long"


def test_a_target_in_metadata_has_no_nul_and_fits_a_path():
    assert link_target({"--symlink-target": "a/b"}) == b"a/b"
    assert [link_target({"gcsfuse_symlink_target": text}) for text in ("", "a\0b", "x" * 4081)] == [None] * 3


def test_a_file_of_ours_may_be_called_like_a_link_of_rclones():
    assert read(encode(NOW), "notes.rclonelink").mode == NOW.mode


# --------------------------------------------------------------------------- who has the last word


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.semantics("other-tools-attributes")
def test_what_we_write_is_what_every_tool_reads_then(tool):
    metadata = {**TOOLS[tool], "colour": "blue"}
    written = whole_metadata(NOW, metadata, "")
    assert read(written) == NOW
    assert written["colour"] == "blue"
    only_theirs = {key: value for key, value in written.items() if key in metadata}
    assert only_theirs.keys() == metadata.keys(), "no key is added"
    theirs = read(only_theirs)
    assert (theirs.mode, theirs.uid, theirs.gid) == (NOW.mode, NOW.uid, NOW.gid)
    assert theirs.mtime_ns // 10**9 == NOW.mtime_ns // 10**9


def test_each_key_keeps_its_notation():
    assert renewed(S3FS, NOW) == {
        "mode": "33184", "uid": "7", "gid": "8", "mtime": AT, "atime": "981173106.789123457", "ctime": "1795541180"
    }  # fmt: skip
    assert renewed({"mode": "0100600", "ctime": "1"}, NOW) == {"mode": "100640", "ctime": AT}
    assert renewed({"atime": RFC, "mode": "fast", "uid": "9", "goog-reserved-posix-mode": "x"}, NOW) == {
        "atime": rfc3339(AT_NS + 1), "mode": "fast", "uid": "9", "goog-reserved-posix-mode": "x"
    }  # fmt: skip


@pytest.mark.parametrize(("tool", "mode"), [("s3fs", "33184"), ("rclone", "100640")])
def test_one_more_dialect_is_written_whatever_the_object_had(tool, mode):
    for before in TOOLS.values():
        written = whole_metadata(NOW, before, tool)
        assert (written["mode"], written["uid"], written["gid"], written["mtime"]) == (mode, "7", "8", AT)
        assert read(written) == NOW
    assert whole_metadata(NOW, {}, tool)["atime"] == (rfc3339 if tool == "rclone" else seconds)(AT_NS + 1)


@pytest.mark.semantics("other-tools-attributes")
def test_a_tool_that_changed_an_object_of_ours_since_has_the_last_word():
    ours = whole_metadata(NOW, S3FS, "")
    assert read({**ours, "mode": "33261", "mtime": "5"}) == PosixAttributes(
        stat.S_IFREG | 0o755, 7, 8, 5_000_000_000, NOW.atime_ns, NOW.btime_ns
    )
    assert read({**ours, "goog-reserved-posix-mode": "700"}).mode == NOW.mode, "the first dialect that has it counts"
    assert read({**encode(NOW), "goog-reserved-posix-mode": "700"}).mode == stat.S_IFREG | 0o700
    assert read({**encode(NOW), "goog-reserved-file-mtime": str(AT_NS // 10**9)}).mtime_ns == AT_NS, "seconds agree"


@pytest.mark.semantics("other-tools-attributes")
def test_in_an_object_that_others_wrote_file_gateways_keys_win():
    for agent in ("aws-datasync", "aws-s3-files"):
        assert read({**S3FS, **encode(NOW), "user-agent": agent, "mtime": "5"}) == NOW
    assert read({**S3FS, "file-owner": "77"}).uid == 77
    assert read({**S3FS, "file-owner": "77"}).gid == 2345


# --------------------------------------------------------------------------- extended attributes


def test_attributes_of_other_tools_are_no_extended_attributes_and_stay():
    for metadata in TOOLS.values():
        assert xattrs_from_metadata({**metadata, "colour": "blue"}) == {b"user.colour": b"blue"}
        assert metadata_from_xattrs({}, {**metadata, "colour": "blue"}) == metadata
    assert xattrs_from_metadata({"mode": "fast", "uid": "1"}) == {b"user.mode": b"fast", b"user.uid": b"1"}


@pytest.mark.parametrize(
    "name", [b"mode", b"uid", b"mtime", b"atime", b"--symlink-target", b"goog-reserved-posix-mode"]
)
def test_an_extended_attribute_is_never_taken_for_the_files_own(name):
    metadata = metadata_from_xattrs({b"user." + name: b"33261"})
    assert read({**encode(NOW), **metadata}) == NOW
    assert xattrs_from_metadata(metadata) == {b"user." + name: b"33261"}
