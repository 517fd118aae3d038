"""HEAD, ranged GET into memory, ranged GET into a file."""

from pathlib import Path

import pytest

from gatewayfs.errors import ObjectNotFound, PreconditionFailed, RangeNotSatisfiable
from gatewayfs.s3.store import FileRange, InlineBody, ObjectHeaders, ObjectStore
from gatewayfs.types import ETag, ObjectKey
from tests.contract.conftest import Foreigner

KEY = ObjectKey("dir/file.txt")
DATA = bytes(range(256)) * 4
WRONG = ETag("0" * 32)


async def test_head_tells_what_put_stored(store: ObjectStore) -> None:
    headers = ObjectHeaders(
        content_type="text/plain",
        cache_control="no-cache",
        content_disposition='attachment; filename="a.txt"',
        content_encoding="identity",
        content_language="de",
        expires="Thu, 01 Dec 2044 16:00:00 GMT",
    )
    metadata = {"file-owner": "1000", "file-mtime": "1775614097672000000ns"}
    put = await store.put(KEY, InlineBody(DATA), metadata, headers)
    info = await store.head(KEY)
    assert (info.key, info.etag, info.size) == (KEY, put.etag, len(DATA))
    assert dict(info.metadata) == metadata
    assert info.headers == headers
    assert not info.archived
    assert info.last_modified_ns > 1_700_000_000_000_000_000


async def test_head_and_list_agree_on_every_field_they_share(store: ObjectStore) -> None:
    await store.put(KEY, InlineBody(DATA), {})
    info = await store.head(KEY)
    (listed,) = (await store.list_page("", delimiter=False)).objects
    assert (listed.key, listed.etag, listed.size) == (info.key, info.etag, info.size)
    assert listed.last_modified_ns == info.last_modified_ns


async def test_metadata_keys_arrive_in_lower_case(store: ObjectStore, foreigner: Foreigner) -> None:
    foreigner.put(KEY, b"", metadata={"File-Owner": "7", "Colour": "Blue"}, tags={})
    assert dict((await store.head(KEY)).metadata) == {"file-owner": "7", "colour": "Blue"}


async def test_head_of_nothing_is_object_not_found(store: ObjectStore) -> None:
    with pytest.raises(ObjectNotFound) as caught:
        await store.head(KEY)
    assert caught.value.key == KEY


@pytest.mark.parametrize(
    ("start", "length"), [(0, 1024), (0, 1), (1023, 1), (100, 300), (1000, 500), (0, 1 << 20)], ids=str
)
async def test_get_reads_the_range_and_stops_at_the_end(store: ObjectStore, start: int, length: int) -> None:
    put = await store.put(KEY, InlineBody(DATA), {"colour": "blue"})
    info, data = await store.get(KEY, start, length)
    assert data == DATA[start : start + length]
    assert (info.etag, info.size, dict(info.metadata)) == (put.etag, len(DATA), {"colour": "blue"})


async def test_get_of_an_empty_object_is_empty(store: ObjectStore) -> None:
    put = await store.put(KEY, InlineBody(b""), {})
    info, data = await store.get(KEY, 0, 4096)
    assert (info.size, info.etag, data) == (0, put.etag, b"")


async def test_an_empty_range_asks_for_nothing(store: ObjectStore) -> None:
    await store.put(KEY, InlineBody(DATA), {})
    info, data = await store.get(KEY, 0, 0)
    assert (info.size, data) == (len(DATA), b"")


async def test_get_beyond_the_end_is_range_not_satisfiable(store: ObjectStore) -> None:
    await store.put(KEY, InlineBody(DATA), {})
    with pytest.raises(RangeNotSatisfiable):
        await store.get(KEY, len(DATA), 10)


async def test_get_with_the_right_etag_succeeds(store: ObjectStore) -> None:
    put = await store.put(KEY, InlineBody(DATA), {})
    assert (await store.get(KEY, 0, 4, if_match=put.etag))[1] == DATA[:4]


async def test_get_with_another_etag_is_refused(store: ObjectStore) -> None:
    await store.put(KEY, InlineBody(DATA), {})
    with pytest.raises(PreconditionFailed):
        await store.get(KEY, 0, 4, if_match=WRONG)


async def test_get_of_nothing_is_object_not_found(store: ObjectStore) -> None:
    with pytest.raises(ObjectNotFound):
        await store.get(KEY, 0, 4)
    with pytest.raises(ObjectNotFound):
        await store.get(KEY, 0, 4, if_match=WRONG)


async def test_fetch_writes_exactly_its_range_into_the_file(store: ObjectStore, tmp_path: Path) -> None:
    put = await store.put(KEY, InlineBody(DATA), {})
    path = tmp_path / "cached"
    path.write_bytes(b"#" * 600)
    info = await store.fetch(KEY, 256, 300, str(path), 100, if_match=put.etag)
    assert info.etag == put.etag
    assert path.read_bytes() == b"#" * 100 + DATA[256:556] + b"#" * 200


async def test_fetch_of_megabytes_is_exact(store: ObjectStore, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    data = b"".join(number.to_bytes(4, "big") for number in range(1_000_000))
    source.write_bytes(data)
    target.touch()
    await store.put(KEY, FileRange(str(source), 0, len(data)), {})
    await store.fetch(KEY, 0, len(data), str(target), 0)
    assert target.read_bytes() == data


async def test_what_progress_tells_of_is_in_the_file(store: ObjectStore, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    data = b"".join(number.to_bytes(4, "big") for number in range(1_000_000))
    source.write_bytes(data)
    target.touch()
    put = await store.put(KEY, FileRange(str(source), 0, len(data)), {})
    told: list[int] = []

    def progress(length: int) -> None:
        assert target.read_bytes()[50 : 50 + length] == data[100 : 100 + length]
        told.append(length)

    await store.fetch(KEY, 100, 3_000_000, str(target), 50, if_match=put.etag, progress=progress)
    assert told == sorted(told)
    assert all(0 < length <= 3_000_000 for length in told)
    before = len(told)
    await store.head(KEY)
    assert len(told) == before, "told after the end"


async def test_fetch_of_more_than_there_is_fails_and_leaves_the_file_alone(store: ObjectStore, tmp_path: Path) -> None:
    await store.put(KEY, InlineBody(DATA), {})
    path = tmp_path / "cached"
    path.write_bytes(b"#" * 2000)
    for start in (1000, len(DATA), 5000):
        with pytest.raises(RangeNotSatisfiable):
            await store.fetch(KEY, start, 500, str(path), 0)
    assert path.read_bytes() == b"#" * 2000


async def test_fetch_with_another_etag_is_refused(store: ObjectStore, tmp_path: Path) -> None:
    await store.put(KEY, InlineBody(DATA), {})
    path = tmp_path / "cached"
    path.touch()
    with pytest.raises(PreconditionFailed):
        await store.fetch(KEY, 0, 100, str(path), 0, if_match=WRONG)
    assert path.read_bytes() == b""
