"""The local door for news of the bucket: paths and messages in, a look for each key, and an account of all of it."""

import json

import pytest
import trio

from gatewayfs.daemon.lookingagain import PATIENCE_S, LookingAgain
from gatewayfs.errors import StoreAccessDenied, UserError
from gatewayfs.refresh.looking import Outcome
from gatewayfs.refresh.notices import Notice


def message(key, bucket="photos", **thing):
    return json.dumps(
        {"Records": [{"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": bucket}, "object": {"key": key}}}]}
    )


class Looks:
    def __init__(self, **outcomes):
        self.outcomes = outcomes
        self.asked = []

    async def __call__(self, notice):
        self.asked.append(notice)
        outcome = self.outcomes.get(notice.key, Outcome.LOOKED)
        if isinstance(outcome, list):
            outcome = outcome.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


async def test_a_path_is_looked_at_as_a_file_and_as_a_directory():
    looks = Looks(**{"site/a/": Outcome.NOTHING})
    told = await LookingAgain(looks, "photos", "site/").handle({"paths": ["a"]}, lambda _: None)
    assert sorted(notice.key for notice in looks.asked) == ["site/a", "site/a/"]
    assert (told["looked"], told["unaffected"]) == (1, 1)


async def test_messages_are_counted_and_each_key_is_looked_at_once():
    looks = Looks(j=StoreAccessDenied("not allowed"), odd=Outcome.ODD)
    frames = []
    messages = [message("k"), message("k"), message("j"), message("odd"), message("k", "other"), "garbage"]
    told = await LookingAgain(looks, "photos", "").handle({"messages": messages}, frames.append)
    assert sorted(notice.key for notice in looks.asked) == ["j", "k", "odd"]
    assert (told["looked"], told["ignored"], told["bad"], told["failed"]) == (1, 2, 1, 1)
    assert told["failures"] == ["j: not allowed"]
    assert len(frames) == 3


async def test_a_write_of_ours_is_waited_for_but_not_for_ever(autojump_clock):
    looks = Looks(a=[Outcome.BUSY, Outcome.LOOKED], b=Outcome.MOVING)
    begun = trio.current_time()
    told = await LookingAgain(looks, "photos", "").handle({"messages": [message("a"), message("b")]}, lambda _: None)
    assert (told["looked"], told["waiting"]) == (1, 1)
    assert PATIENCE_S <= trio.current_time() - begun < 2 * PATIENCE_S
    assert looks.asked.count(Notice("a")) == 2


async def test_arguments_of_another_kind_are_refused():
    with pytest.raises(UserError):
        await LookingAgain(Looks(), "photos", "").handle({"paths": [5]}, lambda _: None)
