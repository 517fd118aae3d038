"""Multipart uploads: begun, filled, copied into, completed, aborted, listed."""

from pathlib import Path

import pytest
import xxhash

from gatewayfs.errors import BodyChanged, ObjectNotFound, PreconditionFailed, StoreRefused, UploadNotFound
from gatewayfs.s3.store import PART_BYTES_MIN, Condition, FileRange, InlineBody, ObjectHeaders, ObjectStore, Part
from gatewayfs.types import ETag, ObjectKey
from tests.contract.conftest import Foreigner

KEY = ObjectKey("big file")
SOURCE = ObjectKey("source")
WRONG = ETag("0" * 32)
TAIL = b"the tail"


@pytest.fixture
def big(tmp_path: Path) -> tuple[Path, bytes]:
    """A file of one whole part and a tail."""
    data = bytes(range(256)) * (PART_BYTES_MIN // 256) + TAIL
    path = tmp_path / "big"
    path.write_bytes(data)
    return path, data


def part_of(path: Path, data: bytes, start: int, length: int) -> FileRange:
    return FileRange(str(path), start, length, xxhash.xxh3_128_digest(data[start : start + length]))


async def upload(store: ObjectStore, key: ObjectKey, path: Path, data: bytes, upload_id: str) -> list[Part]:
    head = part_of(path, data, 0, PART_BYTES_MIN)
    tail = part_of(path, data, PART_BYTES_MIN, len(data) - PART_BYTES_MIN)
    return [await store.upload_part(key, upload_id, 1, head), await store.upload_part(key, upload_id, 2, tail)]


async def test_a_completed_upload_is_one_object_with_its_metadata(
    store: ObjectStore, big: tuple[Path, bytes], tmp_path: Path
) -> None:
    path, data = big
    headers = ObjectHeaders(content_type="application/x-big")
    upload_id = await store.create_multipart(KEY, {"file-owner": "7"}, headers)
    with pytest.raises(ObjectNotFound):
        await store.head(KEY)
    parts = await upload(store, KEY, path, data, upload_id)
    assert list(await store.list_parts(KEY, upload_id)) == parts
    result = await store.complete_multipart(KEY, upload_id, parts)
    info = await store.head(KEY)
    assert (info.etag, info.size, dict(info.metadata)) == (result.etag, len(data), {"file-owner": "7"})
    assert info.headers.content_type == "application/x-big"
    assert result.etag.endswith("-2")
    target = tmp_path / "target"
    target.touch()
    await store.fetch(KEY, 0, len(data), str(target), 0, if_match=result.etag)
    assert target.read_bytes() == data
    assert list(await store.list_uploads("")) == []


async def test_a_part_that_changed_since_the_plan_is_never_sent(store: ObjectStore, big: tuple[Path, bytes]) -> None:
    path, data = big
    upload_id = await store.create_multipart(KEY, {})
    planned = part_of(path, data, 0, PART_BYTES_MIN)
    with path.open("r+b") as file:
        file.write(b"changed")
    with pytest.raises(BodyChanged):
        await store.upload_part(KEY, upload_id, 1, planned)
    assert list(await store.list_parts(KEY, upload_id)) == []


async def test_a_part_sent_again_replaces_the_first(store: ObjectStore) -> None:
    upload_id = await store.create_multipart(KEY, {})
    await store.upload_part(KEY, upload_id, 1, InlineBody(b"old"))
    part = await store.upload_part(KEY, upload_id, 1, InlineBody(b"new"))
    await store.complete_multipart(KEY, upload_id, [part])
    assert (await store.get(KEY, 0, 10))[1] == b"new"


async def test_complete_if_absent_never_replaces(store: ObjectStore) -> None:
    await store.put(KEY, InlineBody(b"there"), {})
    upload_id = await store.create_multipart(KEY, {})
    part = await store.upload_part(KEY, upload_id, 1, InlineBody(b"new"))
    with pytest.raises(PreconditionFailed):
        await store.complete_multipart(KEY, upload_id, [part], condition=Condition(absent=True))
    assert (await store.get(KEY, 0, 10))[1] == b"there"


async def test_complete_if_match_replaces_only_what_was_seen(store: ObjectStore) -> None:
    put = await store.put(KEY, InlineBody(b"there"), {})
    upload_id = await store.create_multipart(KEY, {})
    part = await store.upload_part(KEY, upload_id, 1, InlineBody(b"new"))
    with pytest.raises(PreconditionFailed):
        await store.complete_multipart(KEY, upload_id, [part], condition=Condition(match=WRONG))
    assert (await store.get(KEY, 0, 10))[1] == b"there"
    await store.abort_multipart(KEY, upload_id)
    upload_id = await store.create_multipart(KEY, {})
    part = await store.upload_part(KEY, upload_id, 1, InlineBody(b"new"))
    await store.complete_multipart(KEY, upload_id, [part], condition=Condition(match=put.etag))
    assert (await store.get(KEY, 0, 10))[1] == b"new"


@pytest.mark.parametrize("wrong", ["order", "number", "etag"])
async def test_wrong_parts_are_refused(store: ObjectStore, big: tuple[Path, bytes], wrong: str) -> None:
    path, data = big
    upload_id = await store.create_multipart(KEY, {})
    first, second = await upload(store, KEY, path, data, upload_id)
    parts = {
        "order": [second, first],
        "number": [first, Part(3, second.etag)],
        "etag": [Part(1, WRONG), second],
    }
    with pytest.raises(StoreRefused):
        await store.complete_multipart(KEY, upload_id, parts[wrong])
    await store.complete_multipart(KEY, upload_id, [first, second])


async def test_a_small_part_before_the_last_is_refused(store: ObjectStore) -> None:
    upload_id = await store.create_multipart(KEY, {})
    parts = [await store.upload_part(KEY, upload_id, number, InlineBody(b"small")) for number in (1, 2)]
    with pytest.raises(StoreRefused):
        await store.complete_multipart(KEY, upload_id, parts)


async def test_an_aborted_upload_is_gone(store: ObjectStore) -> None:
    upload_id = await store.create_multipart(KEY, {})
    await store.upload_part(KEY, upload_id, 1, InlineBody(b"x"))
    await store.abort_multipart(KEY, upload_id)
    await store.abort_multipart(KEY, upload_id)
    assert list(await store.list_uploads("")) == []
    with pytest.raises(UploadNotFound):
        await store.list_parts(KEY, upload_id)


async def test_an_aborted_upload_takes_no_parts(store: ObjectStore) -> None:
    upload_id = await store.create_multipart(KEY, {})
    await store.abort_multipart(KEY, upload_id)
    with pytest.raises(UploadNotFound):
        await store.upload_part(KEY, upload_id, 1, InlineBody(b"x"))


async def test_an_aborted_upload_cannot_be_completed(store: ObjectStore) -> None:
    upload_id = await store.create_multipart(KEY, {})
    part = await store.upload_part(KEY, upload_id, 1, InlineBody(b"x"))
    await store.abort_multipart(KEY, upload_id)
    with pytest.raises(UploadNotFound):
        await store.complete_multipart(KEY, upload_id, [part])


async def test_unfinished_uploads_are_listed_by_prefix(store: ObjectStore) -> None:
    keys = [ObjectKey("a/1"), ObjectKey("a/b c+ü"), ObjectKey("b/1")]
    ids = {key: await store.create_multipart(key, {}) for key in keys}
    listed = await store.list_uploads("a/")
    assert {pending.key: pending.upload_id for pending in listed} == {key: ids[key] for key in keys[:2]}
    assert all(pending.initiated_ns > 1_000_000_000_000_000_000 for pending in listed)
    for key, upload_id in ids.items():
        await store.abort_multipart(key, upload_id)
    assert list(await store.list_uploads("")) == []


async def test_a_part_can_be_copied_from_another_object(store: ObjectStore, big: tuple[Path, bytes]) -> None:
    path, data = big
    put = await store.put(SOURCE, FileRange(str(path), 0, len(data)), {})
    upload_id = await store.create_multipart(KEY, {})
    first = await store.copy_part(KEY, upload_id, 1, SOURCE, 0, PART_BYTES_MIN, source_etag=put.etag)
    second = await store.copy_part(KEY, upload_id, 2, SOURCE, PART_BYTES_MIN + 4, 4, source_etag=put.etag)
    await store.complete_multipart(KEY, upload_id, [first, second])
    assert (await store.head(KEY)).size == PART_BYTES_MIN + 4
    assert (await store.get(KEY, PART_BYTES_MIN - 2, 10))[1] == data[PART_BYTES_MIN - 2 : PART_BYTES_MIN] + TAIL[4:]


async def test_copying_a_part_checks_the_sources_etag(store: ObjectStore) -> None:
    await store.put(SOURCE, InlineBody(b"source"), {})
    upload_id = await store.create_multipart(KEY, {})
    with pytest.raises(PreconditionFailed):
        await store.copy_part(KEY, upload_id, 1, SOURCE, 0, 6, source_etag=WRONG)


async def test_copying_a_part_of_nothing_is_object_not_found(store: ObjectStore) -> None:
    upload_id = await store.create_multipart(KEY, {})
    with pytest.raises(ObjectNotFound):
        await store.copy_part(KEY, upload_id, 1, ObjectKey("nothing"), 0, 6, source_etag=None)


async def test_a_versioned_bucket_names_the_version_of_a_completed_upload(
    store: ObjectStore, foreigner: Foreigner
) -> None:
    foreigner.enable_versioning()
    upload_id = await store.create_multipart(KEY, {})
    part = await store.upload_part(KEY, upload_id, 1, InlineBody(b"x"))
    result = await store.complete_multipart(KEY, upload_id, [part])
    assert result.version_id
    assert (await store.head(KEY)).version_id == result.version_id
