"""LIST: order, prefixes, pages; and the keys that are hard to write in a URL, a header or XML."""

import re

import pytest

from gatewayfs.errors import StoreRefused
from gatewayfs.s3.store import InlineBody, ObjectStore
from gatewayfs.types import ObjectKey

EMPTY = InlineBody(b"")
TREE = ["a/", "a/1", "a/2", "a/b/1", "a/b/c/1", "a-", "b", "c/1", "é", "z"]

AWKWARD = [
    "with space",
    "plus+sign",
    "percent%41%",
    "question?a=b&c=d",
    "hash#tag",
    "quotes\"and'",
    "<angle>&amp;",
    "semi;colon:comma,at@",
    "star*paren(bang)!",
    "back\\slash",
    "tilde~under_dash-dot.",
    "umläut/ñ/日本語",
    "emoji 😀",
    "decomposed é",
    "trailing.",
    " leading and trailing ",
    "a" * 255 + "/" + "b" * 255,
    "é" * 512,
    "new\nline",
    "tab\tand\x01control",
    "/leading/slash",
    "double//slash",
    "dots/../and/./more",
]


async def everything(store: ObjectStore, prefix: str, *, delimiter: bool, max_keys: int) -> list[str]:
    """All names of a listing, objects and prefixes merged in key order, page after page."""
    names: list[str] = []
    token = ""
    while True:
        page = await store.list_page(prefix, delimiter=delimiter, token=token, max_keys=max_keys)
        here = sorted([*(listed.key for listed in page.objects), *page.prefixes])
        assert len(here) <= max_keys
        assert not names or not here or names[-1] < here[0]
        names += here
        token = page.next_token
        if not token:
            return names


async def plant(store: ObjectStore, keys: list[str]) -> None:
    for key in keys:
        await store.put(ObjectKey(key), EMPTY, {})


@pytest.mark.parametrize("max_keys", [1, 2, 3, 1000])
async def test_a_flat_listing_gives_every_key_once_in_byte_order(store: ObjectStore, max_keys: int) -> None:
    await plant(store, TREE)
    assert await everything(store, "", delimiter=False, max_keys=max_keys) == sorted(TREE, key=str.encode)
    assert await everything(store, "a/", delimiter=False, max_keys=max_keys) == ["a/", "a/1", "a/2", "a/b/1", "a/b/c/1"]


@pytest.mark.parametrize("max_keys", [1, 2, 3, 1000])
async def test_a_delimited_listing_gives_objects_and_prefixes_once(store: ObjectStore, max_keys: int) -> None:
    await plant(store, TREE)
    assert await everything(store, "", delimiter=True, max_keys=max_keys) == ["a-", "a/", "b", "c/", "z", "é"]
    assert await everything(store, "a/", delimiter=True, max_keys=max_keys) == ["a/", "a/1", "a/2", "a/b/"]


async def test_a_directorys_marker_is_listed_inside_it(store: ObjectStore) -> None:
    await plant(store, TREE)
    page = await store.list_page("a/", delimiter=True)
    assert [listed.key for listed in page.objects] == ["a/", "a/1", "a/2"]
    assert list(page.prefixes) == ["a/b/"]


async def test_a_listing_of_nothing_is_empty(store: ObjectStore) -> None:
    page = await store.list_page("nothing/", delimiter=True)
    assert (list(page.objects), list(page.prefixes), page.next_token) == ([], [], "")


async def test_start_after_skips_up_to_and_including_the_key(store: ObjectStore) -> None:
    await plant(store, TREE)
    page = await store.list_page("a/", delimiter=False, start_after="a/1")
    assert [listed.key for listed in page.objects] == ["a/2", "a/b/1", "a/b/c/1"]
    page = await store.list_page("a/", delimiter=False, start_after="a/1zzz")
    assert [listed.key for listed in page.objects] == ["a/2", "a/b/1", "a/b/c/1"]


async def test_a_listing_tells_etag_and_size(store: ObjectStore) -> None:
    put = await store.put(ObjectKey("k"), InlineBody(b"12345"), {})
    (listed,) = (await store.list_page("", delimiter=True)).objects
    assert (listed.etag, listed.size) == (put.etag, 5)


@pytest.mark.parametrize("text", AWKWARD, ids=lambda text: re.sub(r"[^ -Z^-~]+", "_", text)[:24])
async def test_awkward_keys_work_everywhere(store: ObjectStore, text: str) -> None:
    key, target = ObjectKey(text), ObjectKey("copy of " + text)
    if len(target.encode()) > 1024:
        target = ObjectKey(text[:-4])
    try:
        put = await store.put(key, InlineBody(b"data"), {"colour": "blue"})
        assert (await store.head(key)).etag == put.etag
        assert (await store.get(key, 1, 2))[1] == b"at"
        assert [listed.key for listed in (await store.list_page(text, delimiter=False)).objects] == [key]
        await store.copy(key, target, source_etag=put.etag)
        assert (await store.head(target)).etag == put.etag
        parent = text[: text.rfind("/") + 1]
        page = await store.list_page(parent, delimiter=True)
        assert key in [listed.key for listed in page.objects]
    finally:
        for doomed in (key, target):
            await store.delete(doomed)
    assert await everything(store, "", delimiter=False, max_keys=1000) == []


async def test_a_key_of_1025_bytes_is_refused(store: ObjectStore) -> None:
    await store.put(ObjectKey("k" * 1024), EMPTY, {})
    with pytest.raises(StoreRefused):
        await store.put(ObjectKey("k" * 1025), EMPTY, {})
