"""Buckets of strangers: whatever keys and metadata there are, each is shown or counted, and none is touched."""

import stat

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from gatewayfs.errors import FsError
from gatewayfs.refresh.diff import name_of
from gatewayfs.types import KEY_BYTES_MAX
from tests.component.refresh.harness import World

COMPONENTS = st.one_of(
    st.sampled_from(
        [
            "",
            ".",
            "..",
            "a",
            "b",
            "A",
            "ü",
            "u\u0308",
            "\0",
            "c\x01",
            "\n",
            "x" * 255,
            "x" * 256,
            "a_$folder$",
            "\udcff",
        ]
    ),
    st.text(max_size=6),
)
KEYS = st.lists(COMPONENTS, min_size=1, max_size=5).map("/".join).filter(lambda key: 0 < length(key) <= KEY_BYTES_MAX)
NAMES = """
    file-permissions File-Owner file-mtime file-atime file-rdev user-agent mode uid gid mtime atime btime
    goog-reserved-posix-mode goog-reserved-file-is-symlink --symlink-target
"""
ATTRIBUTE_KEYS = st.sampled_from(NAMES.split())
VALUES = st.one_of(
    st.sampled_from(["0120777", "0010644", "0020644", "41471", "33188", "16877", "8:0", "gatewayfs", "true", "a\0b"]),
    st.sampled_from(["-1", "1e400", "nan", str(1 << 40), str(1 << 70), "9" * 400, "-62135596800.5", "٣", ""]),
    st.text(max_size=12),
)
OBJECTS = st.tuples(
    st.sampled_from([b"", b"data", b"nul\0", b"x" * 5000]),
    st.dictionaries(ATTRIBUTE_KEYS | st.text(), VALUES, max_size=5),
)
BUCKETS = st.dictionaries(KEYS, OBJECTS, max_size=12)


def length(key: str) -> int:
    return len(key.encode(errors="surrogateescape" if key.isascii() else "surrogatepass"))


def can_be_shown(key: str) -> bool:
    return all(name_of(part) is not None for part in key.removesuffix("/").split("/"))


@pytest.fixture
def w(tmp_path):
    world = World(tmp_path / "meta")
    yield world
    world.close()


async def look_at_everything(w: World) -> None:
    """As ``ls -lR`` and ``readlink`` would: a refusal is a typed error."""
    await w.list_everything()
    for ino in [ino for ino in range(2, 200) if w.meta.inode(ino) is not None]:
        try:
            await w.refresh.ensure_attributes(ino)
            if w.meta.require(ino).is_symlink:
                await w.refresh.read_target(ino)
        except FsError:
            continue


@settings(max_examples=40)
@given(bucket=BUCKETS, page=st.sampled_from([1, 3, 1000]))
def test_any_bucket_can_be_looked_at_and_stays_as_it_is(tmp_path_factory, bucket, page):
    async def run() -> None:
        w = World(tmp_path_factory.mktemp("hostile"))
        try:
            for key, (data, metadata) in bucket.items():
                w.store.foreign_put(key, data, metadata)
            w.store.page_keys_max = page
            before = {key: (stored.etag, dict(stored.metadata)) for key, stored in w.store.raw.items()}
            async with w.running():
                await look_at_everything(w)
            assert {key: (stored.etag, dict(stored.metadata)) for key, stored in w.store.raw.items()} == before
            assert {name for name, _ in w.store.requests} <= {"list_page", "head", "get"}
            shown = w.tree()
            files = {key for key in bucket if can_be_shown(key) and not key.endswith("/")}
            hidden = {key for key in files if key + "/" in shown}
            assert files - hidden == {path for path in shown if not path.endswith("/")}
            statistics = w.refresh.statistics()
            assert statistics.shadowed == len(hidden)
            assert (statistics.unrepresentable > 0) == any(not can_be_shown(key) for key in bucket)
            for ino in range(2, 200):
                inode = w.meta.inode(ino)
                assert inode is None or inode.is_directory or stat.S_ISREG(inode.mode) or inode.remote.size <= 4080
        finally:
            w.close()

    trio.run(run)


async def test_a_key_of_1024_bytes_is_a_file(w):
    key = "/".join(["k" * 255] * 3 + ["k" * 127, "k" * 128])
    w.store.foreign_put(key, b"1")
    assert len(key) == KEY_BYTES_MAX
    async with w.running():
        await w.list_everything()
        await w.refresh.ensure_attributes(w.path(key).ino)
    assert w.path(key).size == 1


async def test_folders_of_consoles_are_directories_and_those_of_hadoop_empty_files(w):
    w.store.foreign_put("console/", b"")
    w.store.foreign_put("hadoop_$folder$", b"")
    w.store.foreign_put("hadoop/part-0", b"1")
    async with w.running():
        await w.list_everything()
    assert w.names() == ["console/", "hadoop/", "hadoop_$folder$"]


async def test_what_cannot_be_shown_below_a_directory_is_remembered_with_it(w):
    w.store.foreign_put("d/file", b"1")
    w.store.foreign_put("d//odd", b"1")
    w.store.foreign_put("d/both", b"1")
    w.store.foreign_put("d/both/below", b"1")
    async with w.running():
        await w.list_everything()
        assert w.path("d").directory.hidden == 2
        assert w.path("d/both").directory.hidden == 0
        w.store.foreign_delete("d//odd")
        await w.refresh.refresh(["d"])
        assert w.path("d").directory.hidden == 1
