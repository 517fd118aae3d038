"""Part sizes, ranges and etags against plain reckoning."""

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from gatewayfs.s3.store import OBJECT_BYTES_MAX, PARTS_MAX, Part
from gatewayfs.upload.layout import COPY_PART_BYTES
from gatewayfs.upload.parts import composite_etag, copy_ranges, part_bytes_for

MIB = 1 << 20


@given(st.integers(0, OBJECT_BYTES_MAX))
def test_ten_thousand_parts_reach_every_size(size):
    part = part_bytes_for(size, 8 * MIB)
    assert part >= 8 * MIB
    assert -(-size // part) <= PARTS_MAX
    assert part == 8 * MIB or -(-size // (part // 2)) > PARTS_MAX, "no larger than need be"


@given(st.integers(1, OBJECT_BYTES_MAX))
def test_copy_ranges_cover_the_object_without_gap(size):
    end = 0
    for start, length in copy_ranges(size):
        assert start == end
        assert 0 < length <= max(COPY_PART_BYTES, size // 1000)
        end += length
    assert end == size


def test_a_composite_etag_is_the_md5_of_md5s():
    digests = [hashlib.md5(data) for data in (b"one", b"two")]
    parts = [Part(number, digest.hexdigest()) for number, digest in enumerate(digests, 1)]
    whole = hashlib.md5(b"".join(digest.digest() for digest in digests)).hexdigest()
    assert composite_etag(parts) == f"{whole}-2"


def test_part_etags_that_are_no_md5_make_no_composite():
    assert composite_etag([Part(1, "not hexadecimal")]) is None
    assert composite_etag([Part(1, "abcd")]) is None
