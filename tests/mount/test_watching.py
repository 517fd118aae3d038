"""Programs on the host that watch a file (inotify) are told when others delete it in the bucket."""

import ctypes
import os
import select
import struct
from collections.abc import Callable

import pytest

from tests.support.gateway import Gateway
from tests.support.s3server import Bucket

IN_DELETE_SELF = 0x400
EVENT = struct.Struct("iIII")
TOLD_S_MAX = 20

libc = ctypes.CDLL(None, use_errno=True)


def watch(path: os.PathLike[str]) -> int:
    """A descriptor that becomes readable when the file at ``path`` is gone."""
    fd: int = libc.inotify_init1(os.O_CLOEXEC)
    assert fd >= 0
    assert libc.inotify_add_watch(fd, os.fsencode(path), IN_DELETE_SELF) >= 0
    return fd


def told(fd: int) -> list[int]:
    """What happened, once something did: masks."""
    readable, _, _ = select.select([fd], [], [], TOLD_S_MAX)
    assert readable, "nobody was told"
    data, events = os.read(fd, 4096), []
    os.close(fd)
    while data:
        _, mask, _, length = EVENT.unpack_from(data)
        events.append(mask)
        data = data[EVENT.size + length :]
    return events


@pytest.mark.semantics("inotify")
def test_who_watches_a_file_is_told_that_others_deleted_it(bucket: Bucket, gateway: Callable[..., Gateway]) -> None:
    bucket.put("dir/goes", b"content")
    bucket.put("dir/stays", b"content")
    served = gateway()
    file = served.mount_dir / "dir" / "goes"
    assert file.read_bytes() == b"content"
    watched = watch(file)
    bucket.delete("dir/goes")
    served.verb("refresh-cache", "--wait", str(served.mount_dir))
    assert IN_DELETE_SELF in told(watched)
