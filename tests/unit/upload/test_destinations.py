"""A listing says that nothing is at a key only where it is right, and only for a moment."""

import trio
from hypothesis import example, given
from hypothesis import strategies as st

from gatewayfs.s3.store import ListedObject, ListPage
from gatewayfs.types import ETag, ObjectKey
from gatewayfs.upload.destinations import LOOKS_PER_LIST, WINDOW_S, Destinations

NAMES = [f"d/{letter}{number}" for letter in "aé\U0001f600\uffee" for number in range(12)]
names = st.sampled_from(NAMES)


class Bucket:
    """Lists what is there, ``page`` keys at a time."""

    def __init__(self, there: set[str], page: int = 5) -> None:
        self.there, self.page = set(there), page
        self.now_s = 0.0
        self.lists = 0
        self.in_order = True

    async def list_from(self, prefix: str, after: str) -> ListPage:
        self.lists += 1
        keys = sorted((key for key in self.there if key.startswith(prefix)), key=str.encode)
        keys = [key for key in keys if key.encode() > after.encode()]
        found = keys[: self.page] if self.in_order else keys[::-1][: self.page]
        listed = [ListedObject(ObjectKey(key), ETag("e"), 1, 0) for key in found]
        await trio.lowlevel.checkpoint()
        return ListPage(listed, [], "more" if len(keys) > len(found) else "")


def _destinations(bucket: Bucket) -> Destinations:
    return Destinations(bucket.list_from, lambda: bucket.now_s)


@example({"d/a0", "d/a1"}, ["d/a0"] * 3, 1, False)
@given(st.sets(names), st.lists(names, max_size=60), st.integers(1, 60), st.booleans())
def test_vacant_is_true_and_lists_are_few(there: set[str], looks: list[str], page: int, in_order: bool) -> None:
    async def main() -> None:
        bucket = Bucket(there, page)
        bucket.in_order = in_order
        destinations = _destinations(bucket)
        for key in looks:
            if await destinations.vacant(key):
                assert key not in there
        assert bucket.lists * LOOKS_PER_LIST <= len(looks)

    trio.run(main)


async def test_a_thousand_looks_into_an_empty_directory_cost_one_list() -> None:
    bucket = Bucket(set())
    destinations = _destinations(bucket)
    answers = [await destinations.vacant(f"new/f{number}") for number in range(1000)]
    assert answers == [False] * (LOOKS_PER_LIST - 1) + [True] * (1001 - LOOKS_PER_LIST)
    assert bucket.lists == 1


async def test_many_who_ask_at_once_share_one_list() -> None:
    bucket = Bucket(set())
    destinations = _destinations(bucket)
    async with trio.open_nursery() as nursery:
        for number in range(100):
            nursery.start_soon(destinations.vacant, f"new/f{number}")
    assert bucket.lists == 1


async def test_what_others_put_is_seen_when_the_window_is_over() -> None:
    bucket = Bucket(set())
    destinations = _destinations(bucket)
    for number in range(10):
        await destinations.vacant(f"new/f{number}")
    bucket.there.add("new/f11")
    assert await destinations.vacant("new/f11")  # the window
    bucket.now_s += WINDOW_S + 0.001
    assert not await destinations.vacant("new/f11")


async def test_who_asks_again_must_look_since_his_own_copy_may_have_been_replaced() -> None:
    destinations = _destinations(Bucket(set()))
    for number in range(10):
        await destinations.vacant(f"new/f{number}")
    assert await destinations.vacant("new/f10")
    assert not await destinations.vacant("new/f10")
    assert not await destinations.vacant("new/f9")
    assert await destinations.vacant("new/f11")


async def test_a_look_into_every_directory_of_a_tree_lists_none() -> None:
    bucket = Bucket(set())
    destinations = _destinations(bucket)
    for number in range(1000):
        assert not await destinations.vacant(f"new/d{number}/f")
    assert bucket.lists == 0
