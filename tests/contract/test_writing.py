"""PUT, COPY and DELETE, with and without conditions."""

from pathlib import Path

import pytest
import trio
import xxhash

from gatewayfs.errors import BodyChanged, ConcurrentRequest, ObjectNotFound, PreconditionFailed, StoreRefused
from gatewayfs.s3.attributes import metadata_size_bytes
from gatewayfs.s3.capabilities import ProbedStore, probe
from gatewayfs.s3.store import Condition, Deletion, FileRange, InlineBody, ObjectHeaders, ObjectStore
from gatewayfs.types import ETag, ObjectKey
from tests.contract.conftest import Foreigner

KEY = ObjectKey("file")
OTHER = ObjectKey("other")
WRONG = ETag("0" * 32)


async def content(store: ObjectStore, key: ObjectKey) -> bytes:
    return (await store.get(key, 0, 1 << 20))[1]


# --------------------------------------------------------------------------- bodies


async def test_put_sends_the_range_of_the_file(store: ObjectStore, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    await store.put(KEY, FileRange(str(path), 2, 5, xxhash.xxh3_128_digest(b"23456")), {})
    assert await content(store, KEY) == b"23456"


async def test_a_file_that_changed_since_the_plan_is_never_sent(store: ObjectStore, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    planned = FileRange(str(path), 0, 10, xxhash.xxh3_128_digest(b"0123456789"))
    path.write_bytes(b"012345678X")
    with pytest.raises(BodyChanged):
        await store.put(KEY, planned, {})
    path.write_bytes(b"01234")
    with pytest.raises(BodyChanged):
        await store.put(KEY, FileRange(str(path), 0, 10), {})
    with pytest.raises(ObjectNotFound):
        await store.head(KEY)


# --------------------------------------------------------------------------- metadata


@pytest.mark.parametrize(
    "value",
    ["plain", "a, b; c=d", "=?UTF-8?B?w6TDtg==?=", "two  blanks", '"quoted"', "x" * 1500, "~!@#$%^&*()_+{}|:<>?"],
    ids=lambda value: value[:12],
)
async def test_metadata_comes_back_as_it_was_sent(store: ObjectStore, value: str) -> None:
    await store.put(KEY, InlineBody(b""), {"colour": value})
    assert dict((await store.head(KEY)).metadata) == {"colour": value}


async def test_non_ascii_metadata_of_others_survives_being_written_back(
    store: ObjectStore, foreigner: Foreigner
) -> None:
    foreigner.put(KEY, b"", metadata={"name": "=?UTF-8?Q?gr=C3=BC=C3=9Fe?="}, tags={})
    before = dict((await store.head(KEY)).metadata)
    await store.put(OTHER, InlineBody(b""), before)
    assert dict((await store.head(OTHER)).metadata) == before


@pytest.mark.parametrize("value", ["a\r\nx-amz-acl: public-read", "a\nb", "a\0b", "\x1b[0m"], ids=repr)
async def test_metadata_cannot_break_out_of_its_header(store: ObjectStore, value: str) -> None:
    with pytest.raises(StoreRefused):
        await store.put(KEY, InlineBody(b""), {"colour": value})
    with pytest.raises(StoreRefused):
        await store.put(KEY, InlineBody(b""), {f"x{value}": "a"})


async def test_two_kilobytes_of_metadata_fit(store: ObjectStore) -> None:
    metadata = {"a": "x" * 1500, "bb": "y" * (2048 - 1 - 1500 - 2)}
    assert metadata_size_bytes(metadata) == 2048
    await store.put(KEY, InlineBody(b""), metadata)
    assert dict((await store.head(KEY)).metadata) == metadata


async def test_more_than_two_kilobytes_of_metadata_are_refused(store: ObjectStore) -> None:
    with pytest.raises(StoreRefused):
        await store.put(KEY, InlineBody(b""), {"a": "x" * 2048})


# --------------------------------------------------------------------------- conditional PUT


async def test_put_if_absent_creates_and_never_replaces(store: ObjectStore) -> None:
    await store.put(KEY, InlineBody(b"first"), {}, condition=Condition(absent=True))
    with pytest.raises(PreconditionFailed):
        await store.put(KEY, InlineBody(b"second"), {}, condition=Condition(absent=True))
    assert await content(store, KEY) == b"first"


async def test_put_if_match_replaces_only_what_was_seen(store: ObjectStore) -> None:
    first = await store.put(KEY, InlineBody(b"first"), {})
    second = await store.put(KEY, InlineBody(b"second"), {}, condition=Condition(match=first.etag))
    with pytest.raises(PreconditionFailed):
        await store.put(KEY, InlineBody(b"third"), {}, condition=Condition(match=first.etag))
    assert (await store.head(KEY)).etag == second.etag


async def test_put_if_match_on_nothing_is_object_not_found(store: ObjectStore) -> None:
    with pytest.raises(ObjectNotFound):
        await store.put(KEY, InlineBody(b"x"), {}, condition=Condition(match=WRONG))


async def test_of_many_creators_one_wins(store: ObjectStore) -> None:
    winners: list[int] = []
    losers: list[int] = []

    async def create(number: int) -> None:
        try:
            await store.put(KEY, InlineBody(str(number).encode()), {}, condition=Condition(absent=True))
        except (PreconditionFailed, ConcurrentRequest):
            losers.append(number)
        else:
            winners.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(12):
            nursery.start_soon(create, number)
    assert len(winners) == 1
    assert len(losers) == 11
    assert await content(store, KEY) == str(winners[0]).encode()


# --------------------------------------------------------------------------- COPY


async def test_copy_keeps_metadata_headers_and_tags(store: ObjectStore, foreigner: Foreigner) -> None:
    foreigner.put(KEY, b"data", metadata={"colour": "blue"}, tags={"team": "x"})
    before = await store.head(KEY)
    copied = await store.copy(KEY, OTHER, source_etag=before.etag)
    after = await store.head(OTHER)
    assert (after.etag, after.metadata, after.headers) == (copied.etag, before.metadata, before.headers)
    assert await content(store, OTHER) == b"data"
    assert foreigner.tags(OTHER) == {"team": "x"}


async def test_copy_with_metadata_replaces_metadata_and_headers_and_keeps_tags(
    store: ProbedStore, foreigner: Foreigner
) -> None:
    await probe(store, "", "abc")
    foreigner.put(KEY, b"data", metadata={"colour": "blue"}, tags={"team": "x", "a b": "c+d/é"})
    headers = ObjectHeaders(content_type="text/plain")
    for target in (OTHER, KEY):
        copied = await store.copy(KEY, target, source_etag=None, metadata={"file-owner": "1"}, headers=headers)
        after = await store.head(target)
        assert (after.etag, dict(after.metadata), after.headers) == (copied.etag, {"file-owner": "1"}, headers)
        assert copied.last_modified_ns == after.last_modified_ns
        assert foreigner.tags(target) == {"team": "x", "a b": "c+d/é"}


async def test_copy_checks_the_sources_etag(store: ObjectStore) -> None:
    await store.put(KEY, InlineBody(b"data"), {})
    with pytest.raises(PreconditionFailed):
        await store.copy(KEY, OTHER, source_etag=WRONG)
    with pytest.raises(ObjectNotFound):
        await store.head(OTHER)


async def test_copy_of_nothing_is_object_not_found(store: ObjectStore) -> None:
    with pytest.raises(ObjectNotFound):
        await store.copy(KEY, OTHER, source_etag=None)


async def test_copy_if_absent_never_replaces(store: ObjectStore) -> None:
    await store.put(KEY, InlineBody(b"data"), {})
    await store.put(OTHER, InlineBody(b"there"), {})
    with pytest.raises(PreconditionFailed):
        await store.copy(KEY, OTHER, source_etag=None, condition=Condition(absent=True))
    assert await content(store, OTHER) == b"there"


# --------------------------------------------------------------------------- DELETE


async def test_delete_removes_and_is_content_with_nothing(store: ObjectStore) -> None:
    await store.put(KEY, InlineBody(b"data"), {})
    await store.delete(KEY)
    await store.delete(KEY)
    with pytest.raises(ObjectNotFound):
        await store.head(KEY)


async def test_delete_if_match_removes_only_what_was_seen(store: ObjectStore) -> None:
    put = await store.put(KEY, InlineBody(b"data"), {})
    with pytest.raises(PreconditionFailed):
        await store.delete(KEY, condition=Condition(match=WRONG))
    assert (await store.head(KEY)).etag == put.etag
    await store.delete(KEY, condition=Condition(match=put.etag))
    await store.delete(KEY, condition=Condition(match=put.etag))
    with pytest.raises(ObjectNotFound):
        await store.head(KEY)


async def test_many_are_deleted_in_one_request_and_what_is_gone_already_does_no_harm(store: ObjectStore) -> None:
    keys = [ObjectKey(f"many/{number} <&> ä") for number in range(30)]
    etags = [(await store.put(key, InlineBody(key.encode()), {})).etag for key in keys]
    gone = Deletion(ObjectKey("many/never there"), WRONG)
    assert not await store.delete_many([*map(Deletion, keys, etags), gone])
    assert not (await store.list_page("many/", delimiter=False)).objects


async def test_of_many_only_those_are_deleted_that_are_what_was_seen(store: ObjectStore) -> None:
    put = [(await store.put(key, InlineBody(b"data"), {})).etag for key in (KEY, OTHER)]
    refused = await store.delete_many([Deletion(KEY, WRONG), Deletion(OTHER, put[1])])
    assert [(key, type(error)) for key, error in refused.items()] == [(KEY, PreconditionFailed)]
    assert [found.key for found in (await store.list_page("", delimiter=False)).objects] == [KEY]


# --------------------------------------------------------------------------- versions


async def test_a_versioned_bucket_names_the_version_of_every_write(store: ObjectStore, foreigner: Foreigner) -> None:
    foreigner.enable_versioning()
    first = await store.put(KEY, InlineBody(b"1"), {})
    second = await store.put(KEY, InlineBody(b"2"), {})
    assert len({first.version_id, second.version_id, ""}) == 3
    assert (await store.head(KEY)).version_id == second.version_id
    assert foreigner.versions(KEY) == 2
    await store.delete(KEY)
    assert foreigner.versions(KEY) == 3


async def test_a_versioned_bucket_names_the_version_of_a_copy(store: ObjectStore, foreigner: Foreigner) -> None:
    foreigner.enable_versioning()
    await store.put(KEY, InlineBody(b"1"), {})
    copied = await store.copy(KEY, OTHER, source_etag=None)
    assert copied.version_id
    assert copied.version_id == (await store.head(OTHER)).version_id


async def test_an_unversioned_bucket_names_none(store: ObjectStore) -> None:
    assert (await store.put(KEY, InlineBody(b"1"), {})).version_id == ""
    assert (await store.head(KEY)).version_id == ""
