"""The attribute codec: lossless for what we write, unshakable by what others wrote."""

import base64
import os
import stat

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gatewayfs.s3.attributes import ShareDefaults, decode, encode, metadata_size_bytes, split_metadata
from gatewayfs.s3.dialects import PosixAttributes
from gatewayfs.s3.xattrs import metadata_from_xattrs, xattrs_from_metadata

DEFAULTS = ShareDefaults()
LAST_MODIFIED_NS = 1_700_000_000_000_000_000

times = st.integers(-(1 << 63), (1 << 63) - 1)
ids = st.integers(0, (1 << 32) - 2)
modes = st.builds(
    lambda kind, bits: kind | bits,
    st.sampled_from([stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFIFO, stat.S_IFSOCK]),
    st.integers(0, 0o7777),
)
attributes = st.builds(
    PosixAttributes,
    mode=modes,
    uid=ids,
    gid=ids,
    mtime_ns=times,
    atime_ns=st.none() | times,
    btime_ns=st.none() | times,
)
short_names = st.binary(min_size=1, max_size=40) | st.from_regex(rb"[a-z0-9._-]{1,20}", fullmatch=True)
xattr_dicts = st.dictionaries(
    short_names.map(lambda name: b"user." + name),
    st.binary(max_size=60) | st.from_regex(rb"[ -~]{0,20}", fullmatch=True),
    max_size=8,
)
hostile_text = (
    st.text(max_size=30)
    | st.from_regex(r"-?[0-9]{1,40}(ns)?", fullmatch=True)
    | st.sampled_from(
        ["abc", "", "7" * 10_240, "9" * 10_240 + "ns", str(1 << 40), "-1", "0o755", "١٢٣", "1e9", "nan", "gatewayfs"]
    )
    | st.sampled_from(["41471", "120777", "2026-13-40T25:61:61Z", "9999-12-31T23:59:59+23:59", "true", "a\0b"])
)
hostile_metadata = st.dictionaries(
    st.sampled_from(
        ["file-owner", "File-Group", "FILE-PERMISSIONS", "file-mtime", "file-atime", "file-btime", "user-agent"]
    )
    | st.sampled_from(["mode", "uid", "Gid", "mtime", "atime", "btime", "ctime", "gcsfuse_mtime", "--symlink-target"])
    | st.sampled_from(["goog-reserved-posix-mode", "goog-reserved-file-mtime", "goog-reserved-file-is-symlink"])
    | st.text(max_size=20)
    | st.just("xattr-!!!!"),
    hostile_text,
    max_size=10,
)


def decode_file(metadata: dict[str, str], *, directory: bool = False, size: int = 0) -> PosixAttributes:
    key = "d/" if directory else "f"
    return decode(metadata, key=key, size=size, defaults=DEFAULTS, last_modified_ns=LAST_MODIFIED_NS)


@given(attributes)
def test_what_we_write_reads_back_the_same(attributes: PosixAttributes) -> None:
    size = 9 if stat.S_ISLNK(attributes.mode) else 0
    assert decode_file(encode(attributes), directory=stat.S_ISDIR(attributes.mode), size=size) == attributes


def test_the_written_form_is_file_gateways() -> None:
    metadata = encode(PosixAttributes(stat.S_IFREG | 0o644, 1000, 100, 1_775_614_097_672_000_000, btime_ns=5))
    assert metadata == {
        "file-owner": "1000",
        "file-group": "100",
        "file-permissions": "0100644",
        "file-mtime": "1775614097672000000ns",
        "file-btime": "5ns",
        "user-agent": "gatewayfs",
    }
    assert encode(PosixAttributes(stat.S_IFDIR | 0o755, 0, 0, 0))["file-permissions"] == "0040755"
    assert encode(PosixAttributes(stat.S_IFLNK | 0o777, 0, 0, 0))["file-permissions"] == "0120777"
    assert encode(PosixAttributes(stat.S_IFREG | 0o4755, 0, 0, 0))["file-permissions"] == "0104755"


def test_capitalised_keys_are_read() -> None:
    decoded = decode_file({"File-Owner": "7", "FILE-GROUP": "8", "File-Permissions": "0100600", "File-Mtime": "5ns"})
    assert decoded == PosixAttributes(stat.S_IFREG | 0o600, 7, 8, 5)


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("0100644", stat.S_IFREG | 0o644),
        ("100755", stat.S_IFREG | 0o755),
        ("755", stat.S_IFREG | 0o755),
        ("0755", stat.S_IFREG | 0o755),
        ("0", stat.S_IFREG),
        ("0104711", stat.S_IFREG | 0o4711),
        ("1777", stat.S_IFREG | 0o1777),
        ("0120777", stat.S_IFLNK | 0o777),
        ("010644", stat.S_IFIFO | 0o644),
        ("0140600", stat.S_IFSOCK | 0o600),
        ("0040750", stat.S_IFREG | 0o750),
        ("0020666", stat.S_IFREG | 0o666),
        ("0060660", stat.S_IFREG | 0o660),
        ("0160640", stat.S_IFREG | 0o640),
    ],
)
def test_permissions_are_octal_with_or_without_type_bits(text: str, mode: int) -> None:
    assert decode_file({"file-permissions": text}, size=9 if stat.S_ISLNK(mode) else 0).mode == mode


@pytest.mark.parametrize(
    ("text", "size"),
    [("0120777", 0), ("0120777", 4081), ("0010644", 1), ("0140600", 1), ("0060660", 1)],
    ids=["empty link", "long link", "fifo", "socket", "device"],
)
def test_data_is_never_hidden_behind_a_type(text: str, size: int) -> None:
    metadata = {"file-permissions": text, "file-rdev": "8:0"}
    assert decode_file(metadata, size=size).mode == stat.S_IFREG | int(text[-4:], 8)


@pytest.mark.parametrize("text", ["0040700", "700", "0120700", "0100700"])
def test_a_key_with_a_slash_is_a_directory_whatever_its_metadata_says(text: str) -> None:
    assert decode_file({"file-permissions": text}, directory=True).mode == stat.S_IFDIR | 0o700


def test_a_device_node_has_its_number_in_a_key_of_its_own() -> None:
    disk = PosixAttributes(stat.S_IFBLK | 0o660, 0, 6, 5, rdev=os.makedev(259, 1_000_000))
    metadata = encode(disk)
    assert (metadata["file-permissions"], metadata["file-rdev"]) == ("0060660", "259:1000000")
    assert decode_file(metadata) == disk
    assert "file-rdev" not in encode(PosixAttributes(stat.S_IFREG | 0o600, 0, 0, 0, rdev=5))


@pytest.mark.parametrize("text", [None, "8,0", "8", "4096:0", "0:1048576", "-1:0", ":", "9" * 50 + ":1"])
def test_a_device_without_a_sensible_number_is_a_file(text: str | None) -> None:
    decoded = decode_file({"file-permissions": "0020644"} | ({"file-rdev": text} if text is not None else {}))
    assert (decoded.mode, decoded.rdev) == (stat.S_IFREG | 0o644, 0)


def test_times_without_suffix_are_milliseconds() -> None:
    decoded = decode_file({"file-mtime": "1500", "file-atime": "1500ns", "file-btime": "-2"})
    assert (decoded.mtime_ns, decoded.atime_ns, decoded.btime_ns) == (1_500_000_000, 1500, -2_000_000)


def test_missing_attributes_are_the_shares_defaults() -> None:
    assert decode_file({}) == PosixAttributes(stat.S_IFREG | 0o666, 65534, 65534, LAST_MODIFIED_NS)
    assert decode_file({}, directory=True).mode == stat.S_IFDIR | 0o777


@pytest.mark.parametrize("text", [str(1 << 40), str((1 << 32) - 1), "-1", "abc", "", "1.5", "0x10", "9" * 10_240])
def test_an_owner_that_cannot_be_falls_back(text: str) -> None:
    decoded = decode_file({"file-owner": text, "file-group": "42"})
    assert (decoded.uid, decoded.gid) == (65534, 42)


@pytest.mark.parametrize(
    "text", ["9223372036854775808ns", "9223372036855", "9" * 10_240 + "ns", "now", "1.5", "ns", ""]
)
def test_a_time_that_does_not_fit_falls_back(text: str) -> None:
    assert decode_file({"file-mtime": text}).mtime_ns == LAST_MODIFIED_NS


@pytest.mark.parametrize("text", ["0o755", "rwxr-xr-x", "8", "0200644", "7777777777", "-644", ""])
def test_permissions_that_cannot_be_fall_back(text: str) -> None:
    assert decode_file({"file-permissions": text}).mode == stat.S_IFREG | 0o666


@given(hostile_metadata, st.booleans(), st.sampled_from([0, 1, 4081, 1 << 64]))
def test_hostile_metadata_never_raises_and_yields_legal_attributes(
    metadata: dict[str, str], directory: bool, size: int
) -> None:
    decoded = decode_file(metadata, directory=directory, size=size)
    assert 0 <= decoded.uid < (1 << 32) - 1
    assert 0 <= decoded.gid < (1 << 32) - 1
    assert -(1 << 63) <= decoded.mtime_ns < 1 << 63
    assert stat.S_ISDIR(decoded.mode) == directory
    assert decoded.mode <= 0o177777
    xattrs = xattrs_from_metadata(metadata)
    assert all(name.startswith(b"user.") for name in xattrs)


# --------------------------------------------------------------------------- xattrs


@given(xattr_dicts)
@example({b"user.x": b"=?UTF-8?Q?abc?="})
@example({b"user.x": b"two  blanks", b"user.y": b" lead", b"user.z": b""})
@example({b"user.under_score": b"v", b"user.file-owner": b"1", b"user.xattr-aa": b"1", b"user.user-agent": b"me"})
@example({b"user.Foo": b"1", b"user.foo": b"2", b"user.": b"3", b"user.\xff": b"4", b"user.a b": b"5"})
def test_xattrs_survive_the_trip_through_metadata(xattrs: dict[bytes, bytes]) -> None:
    metadata = metadata_from_xattrs(xattrs)
    assert xattrs_from_metadata(metadata) == xattrs
    for key, value in metadata.items():
        assert key == key.lower()
        assert key.isascii()
        assert key.isprintable()
        assert value
        assert value.isascii()
        assert value.isprintable()
        assert value == " ".join(value.split())
    assert split_metadata(metadata) == ({}, metadata)


def test_ordinary_xattrs_are_readable_by_any_s3_tool() -> None:
    assert metadata_from_xattrs({b"user.colour": b"light blue"}) == {"colour": "light blue"}


@pytest.mark.parametrize("name", [b"under_score", b"Upper", b"file-owner", b"user-agent", b"fs-id", b"xattr-x", b"a b"])
def test_awkward_names_are_encoded(name: bytes) -> None:
    (key,) = metadata_from_xattrs({b"user." + name: b"v"})
    assert key.startswith("xattr-")


def test_unknown_metadata_is_shown_and_reserved_metadata_is_not() -> None:
    metadata = {
        "project": "x",
        "under_score": "y",
        "file-ctime": "1",
        "fs-id": "f",
        "user-agent-id": "u",
        **encode(PosixAttributes(stat.S_IFREG, 0, 0, 0)),
    }
    assert xattrs_from_metadata(metadata) == {b"user.project": b"x", b"user.under_score": b"y"}


def test_encoded_names_outside_the_user_namespace_are_not_shown() -> None:
    forged = metadata_from_xattrs({b"user.x\x00": b"v"})
    key = next(iter(forged))
    security = "xattr-" + base64.b32encode(b"security.capability").decode().rstrip("=").lower()
    assert xattrs_from_metadata({key: "dg=="}) == {b"user.x\x00": b"v"}
    assert xattrs_from_metadata({security: "dg=="}) == {}
    with pytest.raises(ValueError, match="namespace"):
        metadata_from_xattrs({b"security.capability": b"v"})


def test_non_ascii_values_are_shown_decoded_and_kept_verbatim() -> None:
    foreign = {"name": "=?UTF-8?B?w6TDtg==?=", "fs-id": "f"}
    shown = xattrs_from_metadata(foreign)
    assert shown == {b"user.name": "äö".encode()}
    assert metadata_from_xattrs(shown, foreign) == foreign
    changed = metadata_from_xattrs({**shown, b"user.new": b"1"}, foreign)
    assert changed == {**foreign, "new": "1"}
    assert metadata_from_xattrs({}, foreign) == {"fs-id": "f"}


@given(hostile_metadata)
def test_metadata_nobody_edits_keeps_its_view(metadata: dict[str, str]) -> None:
    _, foreign = split_metadata(metadata)
    shown = xattrs_from_metadata(foreign)
    again = metadata_from_xattrs(shown, foreign)
    assert xattrs_from_metadata(again) == shown
    assert set(again.items()) <= set(foreign.items())


def test_split_keeps_what_is_not_ours() -> None:
    ours, foreign = split_metadata({"File-Owner": "1", "file-ctime": "2", "User-Agent": "aws-datasync", "Colour": "b"})
    assert ours == {"file-owner": "1", "user-agent": "aws-datasync"}
    assert foreign == {"file-ctime": "2", "colour": "b"}


def test_size_counts_utf8_bytes_of_keys_and_values() -> None:
    assert metadata_size_bytes({"ab": "xyz", "c": "ä"}) == 2 + 3 + 1 + 2
