"""A ping vouches for the mount: no answer, no ping."""

from collections.abc import Callable
from pathlib import Path

import trio
from trio.testing import MockClock

from gatewayfs.daemon.heartbeat import Heartbeat


class Questions:
    """An ``Offloader`` whose mount answers, fails, or never answers."""

    def __init__(self) -> None:
        self.hangs = False

    async def run(self, fn: Callable[..., object], *args: object, **_options: object) -> object:
        if self.hangs:
            await trio.sleep_forever()
        return fn(*args)


async def test_pings_come_while_the_mount_answers_and_stop_while_it_does_not(autojump_clock: MockClock) -> None:
    sent: list[str] = []
    questions, broken = Questions(), [False]

    def ask(_path: Path) -> None:
        if broken[0]:
            raise OSError(107, "not connected")

    def notify(message: str) -> bool:
        sent.append(message)
        return True

    beat = Heartbeat(Path("/mnt/x"), questions, 30.0, lambda: "fine", notify, ask)  # type: ignore[arg-type]

    async def pings_in(seconds: float) -> int:
        before = sent.count("WATCHDOG=1")
        await trio.sleep(seconds)
        return sent.count("WATCHDOG=1") - before

    async with trio.open_nursery() as nursery:
        nursery.start_soon(beat.run)
        assert await pings_in(60.5) == 7, "one at once, then three in each 30 seconds"
        broken[0] = True
        assert await pings_in(60) == 0
        broken[0], questions.hangs = False, True
        assert await pings_in(60) == 0
        questions.hangs = False
        assert await pings_in(60) >= 3
        nursery.cancel_scope.cancel()
    assert sent.count("STATUS=fine") == 1, "told when it changes only"


async def test_without_systemd_there_is_nothing_to_do(autojump_clock: MockClock) -> None:
    with trio.fail_after(1):
        await Heartbeat(Path("/mnt/x"), Questions(), None, lambda: "fine", lambda _message: False).run()  # type: ignore[arg-type]
