"""What an object had that another one takes the place of: tags, ACL, storage class, redirect."""

from dataclasses import replace

import pytest

from gatewayfs.s3.capabilities import ProbedStore
from gatewayfs.s3.store import PART_BYTES_MIN, Heritage, InlineBody, ObjectHeaders
from gatewayfs.types import ObjectKey
from tests.contract.conftest import Foreigner

KEY = ObjectKey("dir/a file")
OTHER = ObjectKey("other")
TAGS = {"project": "a + b=c", "scanned": "no threat"}
NEW = InlineBody(b"new")


async def put_in_parts(store: ProbedStore, key: ObjectKey, headers: ObjectHeaders) -> None:
    upload_id = await store.create_multipart(key, {}, headers)
    parts = [
        await store.upload_part(key, upload_id, number, InlineBody(data)) for number, data in enumerate([b"only"], 1)
    ]
    await store.complete_multipart(key, upload_id, parts)


async def rewrite(store: ProbedStore, how: str, key: ObjectKey, headers: ObjectHeaders) -> None:
    """Write ``key`` in place of the object that ``headers`` were read from."""
    assert headers.heritage is not None
    if how == "put":
        await store.put(key, NEW, {}, headers)
    elif how == "parts":
        await put_in_parts(store, key, headers)
    else:
        metadata = {"colour": "red"} if how == "rewriting copy" else None
        await store.copy(headers.heritage.key, key, source_etag=None, metadata=metadata, headers=headers)


EVERY_WAY = pytest.mark.parametrize("how", ["put", "parts", "copy", "rewriting copy"])


@EVERY_WAY
async def test_tags_survive(store: ProbedStore, foreigner: Foreigner, how: str, request: pytest.FixtureRequest) -> None:
    if request.node.callspec.params["party"] == "server":  # Ceph drops them; the probe would have said so
        store.capabilities = replace(store.capabilities, replace_keeps_tags=False)
    foreigner.put(KEY, b"old", metadata={}, tags=TAGS)
    info = await store.head(KEY)
    assert info.headers.heritage == Heritage(KEY, len(TAGS))
    await rewrite(store, how, OTHER, info.headers)
    assert foreigner.tags(OTHER) == TAGS


async def test_tags_survive_a_write_in_place(store: ProbedStore, foreigner: Foreigner) -> None:
    foreigner.put(KEY, b"old", metadata={}, tags=TAGS)
    await store.put(KEY, NEW, {}, (await store.head(KEY)).headers)
    assert foreigner.tags(KEY) == TAGS


async def test_an_object_that_is_gone_has_no_heir(store: ProbedStore, foreigner: Foreigner) -> None:
    store.capabilities = replace(store.capabilities, acls=True)
    await store.put(KEY, NEW, {}, ObjectHeaders(heritage=Heritage(OTHER)))
    assert foreigner.tags(KEY) == {}


@EVERY_WAY
async def test_the_acl_survives(store: ProbedStore, foreigner: Foreigner, how: str) -> None:
    store.capabilities = replace(store.capabilities, acls=True)
    foreigner.put_special(KEY, b"old", public=True)
    await rewrite(store, how, OTHER, (await store.head(KEY)).headers)
    assert foreigner.is_public(OTHER)


async def test_an_acl_that_says_nothing_stays_so(store: ProbedStore, foreigner: Foreigner) -> None:
    foreigner.put_special(KEY, b"old")
    assert await store.grants(KEY) == {}


@EVERY_WAY
async def test_the_storage_class_survives(store: ProbedStore, foreigner: Foreigner, how: str) -> None:
    foreigner.put_special(KEY, b"old", storage_class="STANDARD_IA")
    await rewrite(store, how, OTHER, (await store.head(KEY)).headers)
    assert foreigner.storage_class(OTHER) == "STANDARD_IA"


@EVERY_WAY
async def test_the_redirect_survives(store: ProbedStore, how: str) -> None:
    await store.put(KEY, NEW, {}, ObjectHeaders(website_redirect="/elsewhere"))
    await rewrite(store, how, OTHER, (await store.head(KEY)).headers)
    assert (await store.head(OTHER)).headers.website_redirect == "/elsewhere"


async def test_what_travels_with_a_checksum_comes_back_whole(store: ProbedStore) -> None:
    upload_id = await store.create_multipart(KEY, {})
    first = InlineBody(b"x" * (1 << 20))
    parts = [await store.upload_part(KEY, upload_id, 1, first)]
    await store.complete_multipart(KEY, upload_id, parts)
    assert first.length < PART_BYTES_MIN
    assert (await store.get(KEY, 0, first.length))[1] == first.data
