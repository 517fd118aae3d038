"""One settled file is one object version: what collapses, what is never sent, in which order things happen."""

import trio


async def test_a_new_file_goes_up_with_data_and_metadata_in_one_request(world):
    await world.write("a.txt", b"hello")
    await world.drained()
    await world.check()
    assert world.bucket.requests == [("put", "a.txt")]
    assert world.bucket.raw["a.txt"].headers.content_type == "text/plain"


async def test_a_file_written_under_a_temporary_name_is_never_seen_under_it(world):
    async with world.running():
        await world.write(".report.tmp", b"version 1")
        await trio.sleep(1.5)
        world.rename(".report.tmp", "report")
        await trio.sleep(30)
    await world.check()
    assert world.bucket.requests == [("put", "report")]
