"""The probe against stores that lack one thing each."""

from dataclasses import fields, replace

import pytest

from gatewayfs.errors import BadResponse, StoreAccessDenied, StoreError, StoreRefused, StoreUnreachable
from gatewayfs.s3.capabilities import probe, probe_reading
from gatewayfs.s3.store import Capabilities, InlineBody
from gatewayfs.types import ObjectKey
from tests.support.fakestore import EVERYTHING, FakeObjectStore

FLAGS = [field.name for field in fields(Capabilities) if field.name not in ("probed", "versioning")]


@pytest.mark.parametrize("missing", FLAGS)
async def test_whatever_a_store_lacks_is_found_out(missing: str) -> None:
    honours = replace(EVERYTHING, **{missing: False})
    store = FakeObjectStore(capabilities=honours)
    found = await probe(store, "share/", "abc")
    if missing == "part_copy":
        honours = replace(honours, part_copy_source_if_match=False)
    assert found == honours
    assert store.raw == {}
    assert store.upload_ids == []


async def test_versioning_is_noticed_and_no_version_stays() -> None:
    store = FakeObjectStore(capabilities=replace(EVERYTHING, versioning=True))
    assert (await probe(store, "", "abc")).versioning
    assert store.versions(".gatewayfs-probe-abc") == []
    assert store.versions(".gatewayfs-probe-abc-copy") == []


class Denying(FakeObjectStore):
    """A fake where some operations fail."""

    def __init__(self, error: StoreError, *operations: str) -> None:
        super().__init__()
        self._error = error
        self._denied = operations

    async def _begin(self, operation: str, key: str) -> None:
        await super()._begin(operation, key)
        if operation in self._denied:
            raise self._error


async def test_a_read_only_bucket_is_not_an_error() -> None:
    store = Denying(StoreAccessDenied("no"), "put", "purge", "put_with")
    assert await probe(store, "", "abc") == Capabilities(probed=False)


async def test_what_may_not_be_deleted_is_left_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    store = Denying(StoreAccessDenied("no"), "delete", "purge")
    found = await probe(store, "", "abc")
    assert found.probed
    assert not found.delete_if_match
    assert "scratch" in caplog.text


@pytest.mark.parametrize("error", [BadResponse("a web page"), StoreRefused("no"), StoreAccessDenied("no")], ids=repr)
async def test_a_store_that_deletes_many_in_no_readable_way_gets_single_deletions(error: StoreError) -> None:
    found = await probe(Denying(error, "delete_many"), "", "abc")
    assert found == replace(EVERYTHING, delete_many_if_match=False)


@pytest.mark.parametrize("operation", ["put", "head", "copy", "create_multipart", "complete_multipart", "copy_part"])
async def test_a_store_that_fails_in_the_middle_is_asked_again_later(operation: str) -> None:
    store = Denying(StoreUnreachable("lost"), operation)
    with pytest.raises(StoreUnreachable):
        await probe(store, "", "abc")
    assert store.raw == {}
    assert store.upload_ids == []


async def test_the_probe_touches_only_its_scratch_keys() -> None:
    store = FakeObjectStore()
    store.foreign_put("share/file", b"data")
    before = store.raw
    await probe(store, "share/", "abc")
    assert store.raw == before
    assert {key for _, key in store.requests} == {
        ObjectKey("share/.gatewayfs-probe-abc"),
        ObjectKey("share/.gatewayfs-probe-abc-copy"),
    }


@pytest.mark.parametrize("quoted", [True, False])
async def test_reading_alone_tells_how_etags_are_compared(quoted: bool) -> None:
    store = FakeObjectStore(capabilities=replace(EVERYTHING, quoted_if_match=quoted))
    await store.put(ObjectKey("share/a"), InlineBody(b"x"), {})
    before = dict(store.raw)
    assert await probe_reading(store, "share/") == Capabilities(quoted_if_match=quoted)
    assert store.raw == before


async def test_an_empty_bucket_tells_nothing_to_who_may_only_read() -> None:
    assert await probe_reading(FakeObjectStore(), "") == Capabilities()
