"""A long queue costs CPython's garbage collector nothing: 200,000 entries made it stop the loop for half a second."""

import gc

from gatewayfs.upload.entries import Lane
from gatewayfs.upload.schedule import Schedule

ENTRIES = 2000


def test_the_garbage_collector_does_not_look_at_entries_nor_at_what_holds_them():
    schedule = Schedule(
        settle_s=2.0,
        settle_max_s=60.0,
        workers=dict.fromkeys(Lane, 4),
        lane_of=lambda target: Lane.SMALL,
        is_open=lambda target: False,
    )
    gc.collect()
    before = len(gc.get_objects())
    for number in range(ENTRIES):
        schedule.notice(number, 0.0)
    schedule.advance(3.0)  # some are ready, most wait
    gc.collect()
    gc.collect()
    assert len(gc.get_objects()) - before < ENTRIES // 20
    assert schedule.get(ENTRIES - 1) is not None
