"""Journal frames: what was written is read, what was damaged is not."""

from hypothesis import given
from hypothesis import strategies as st

from gatewayfs.meta.frames import (
    FRAME_HEADER_BYTES,
    SEGMENT_HEADER_BYTES,
    SegmentHeader,
    boot_digest,
    decode_header,
    encode_frame,
    encode_header,
    frames_in,
)

SALT = 0x1234_5678_9ABC_DEF0


def segment(payloads: list[bytes], salt: int = SALT) -> bytes:
    head = encode_header(SegmentHeader(7, salt, boot_digest("boot")))
    return head + b"".join(encode_frame(salt, number, 1, 2, 3, each) for number, each in enumerate(payloads, 1))


def test_a_header_comes_back() -> None:
    header = SegmentHeader(7, SALT, boot_digest("boot"))
    assert decode_header(encode_header(header)) == header
    assert len(encode_header(header)) == SEGMENT_HEADER_BYTES


@given(st.integers(0, SEGMENT_HEADER_BYTES - 1), st.integers(1, 255))
def test_a_damaged_header_is_noticed(place: int, flip: int) -> None:
    data = bytearray(encode_header(SegmentHeader(7, SALT, boot_digest("boot"))))
    data[place] ^= flip
    assert decode_header(bytes(data)) is None


def test_no_boot_identity_is_like_no_other() -> None:
    assert boot_digest("") == bytes(16)
    assert boot_digest("a") not in (bytes(16), boot_digest("b"))


@given(st.lists(st.binary(max_size=200), max_size=8), st.integers(0, 4096))
def test_frames_come_back_in_order_before_zeros(payloads: list[bytes], zeros: int) -> None:
    found = list(frames_in(segment(payloads) + bytes(zeros), SALT))
    assert [frame.payload for frame in found] == payloads
    assert [frame.sequence for frame in found] == list(range(1, len(payloads) + 1))
    assert all((frame.synced, frame.ordered, frame.flags) == (1, 2, 3) for frame in found)


@given(st.lists(st.binary(min_size=1, max_size=60), min_size=1, max_size=6), st.data())
def test_a_damaged_byte_costs_its_own_frame_only(payloads: list[bytes], data: st.DataObject) -> None:
    raw = bytearray(segment(payloads))
    victim = data.draw(st.integers(0, len(payloads) - 1))
    start = SEGMENT_HEADER_BYTES
    for payload in payloads[:victim]:
        start += FRAME_HEADER_BYTES + len(payload) + (-len(payload) % 8)
    # Padding is not part of what was said.
    place = data.draw(st.integers(0, FRAME_HEADER_BYTES + len(payloads[victim]) - 1))
    raw[start + place] ^= data.draw(st.integers(1, 255))
    found = {frame.sequence: frame.payload for frame in frames_in(bytes(raw), SALT)}
    expected = {number: each for number, each in enumerate(payloads, 1) if number != victim + 1}
    assert found == expected


@given(st.lists(st.binary(max_size=60), min_size=1, max_size=6), st.data())
def test_a_cut_leaves_a_prefix(payloads: list[bytes], data: st.DataObject) -> None:
    raw = segment(payloads)
    found = [frame.payload for frame in frames_in(raw[: data.draw(st.integers(64, len(raw)))], SALT)]
    assert found == payloads[: len(found)]


def test_a_frame_a_user_wrote_into_a_name_is_not_believed() -> None:
    planted = bytes(8) + encode_frame(0, 99, 0, 0, 0, b"planted")
    raw = bytearray(segment([planted, b"second"]))
    raw[SEGMENT_HEADER_BYTES + 5] ^= 1  # the frame around it is damaged, so the search runs through its payload
    assert [frame.payload for frame in frames_in(bytes(raw), SALT)] == [b"second"]
