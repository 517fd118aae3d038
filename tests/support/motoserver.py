"""moto's S3 server, with one defect of it mended: `python motoserver.py -H HOST -p PORT`.

moto (5.1) computes an object's etag when it is first asked for, reading the buffer that every answer reads, without the
lock the others take. Two requests at once make each other's etag wrong, and it may change once more: to a gateway that
is another object, written by somebody else.
"""

import sys

from moto.s3.models import FakeKey
from moto.server import main

unlocked = FakeKey.etag


def etag(key: FakeKey) -> str:
    """The object's etag, computed once, by one thread, while no other reads its bytes."""
    with key.lock:
        return str(unlocked.__get__(key))


FakeKey.etag = property(etag)  # type: ignore[assignment,method-assign]

if __name__ == "__main__":
    main(sys.argv[1:])
