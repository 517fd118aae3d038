"""What the store honours is asked once by each version of the program, and never at the price of what is known."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from gatewayfs.daemon import learning
from gatewayfs.daemon.learning import CAPABILITIES, learn_capabilities, renew_capabilities, stored_capabilities
from gatewayfs.errors import StoreAccessDenied, StoreUnreachable
from gatewayfs.meta.env import MetaStore
from gatewayfs.s3.store import Capabilities
from tests.component.meta.stores import new_store
from tests.support.fakestore import EVERYTHING, FakeObjectStore


class Silent(FakeObjectStore):
    """A bucket nobody reaches."""

    async def put(self, *args: object, **options: object) -> object:  # type: ignore[override]
        raise StoreUnreachable("no route")


class Locked(FakeObjectStore):
    """A bucket nobody here may write to."""

    async def put(self, *args: object, **options: object) -> object:  # type: ignore[override]
        raise StoreAccessDenied("no")


@pytest.fixture
def meta(tmp_path: Path) -> Iterator[MetaStore]:
    store = new_store(tmp_path)
    yield store
    store.close()


def remember(meta: MetaStore, **known: object) -> None:
    with meta.transaction() as tx:
        tx.put_setting(CAPABILITIES, msgspec.json.encode(known))


def asked(store: FakeObjectStore) -> bool:
    return bool(store.requests)


async def test_answers_are_kept_and_the_same_version_asks_once(meta: MetaStore) -> None:
    await learn_capabilities(meta, FakeObjectStore(), "")
    assert stored_capabilities(meta) == EVERYTHING
    again = FakeObjectStore()
    await renew_capabilities(meta, again, "")
    assert not asked(again)


async def test_what_an_earlier_program_did_not_ask_is_asked_once(meta: MetaStore) -> None:
    remember(meta, put_if_match=True, probed=True)
    assert not stored_capabilities(meta).delete_many_if_match
    await renew_capabilities(meta, FakeObjectStore(), "")
    assert stored_capabilities(meta) == EVERYTHING


async def test_another_version_asks_again(meta: MetaStore, monkeypatch: pytest.MonkeyPatch) -> None:
    await learn_capabilities(meta, FakeObjectStore(), "")
    monkeypatch.setattr(learning, "__version__", "99")
    store = FakeObjectStore()
    await renew_capabilities(meta, store, "")
    assert asked(store)
    again = FakeObjectStore()
    await renew_capabilities(meta, again, "")
    assert not asked(again)


@pytest.mark.parametrize(("bucket", "asks_again"), [(Silent, True), (Locked, False)])
async def test_what_is_known_stays_when_the_bucket_does_not_tell(
    meta: MetaStore, bucket: type[FakeObjectStore], asks_again: bool
) -> None:
    known = Capabilities(delete_if_match=True, probed=True)
    remember(meta, delete_if_match=True, probed=True)
    await renew_capabilities(meta, bucket(), "")
    assert stored_capabilities(meta) == known
    later = FakeObjectStore()
    await renew_capabilities(meta, later, "")
    assert asked(later) is asks_again
