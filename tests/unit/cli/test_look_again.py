"""What ``look-again`` makes of its standard input."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayfs.cli.look_again import BATCH_BYTES, INPUT_BYTES_MAX, batches, messages
from gatewayfs.cli.parsing import UsageError


def test_one_document_may_have_many_lines_and_many_have_one_each() -> None:
    assert messages(b'{\n "a": 1\n}\n') == ['{\n "a": 1\n}\n']
    assert messages(b'{"a": 1}\n\n{"b": 2}\n') == ['{"a": 1}', '{"b": 2}']
    assert messages(b"no json\n") == ["no json"]


@pytest.mark.parametrize("data", [b"", b" \n", b"\xff", b"x" * (INPUT_BYTES_MAX + 1)])
def test_input_that_cannot_be_used_is_refused_with_the_cure(data: bytes) -> None:
    with pytest.raises(UsageError):
        messages(data)


@given(st.lists(st.text('ab"é', max_size=20), max_size=20), st.integers(1, 20))
def test_batches_keep_everything_in_order_and_fit(texts: list[str], repeat: int) -> None:
    texts = [text * 50 * repeat for text in texts]
    assert [text for batch in batches(texts) for text in batch] == texts
    for batch in batches(texts):
        assert len(batch) == 1 or sum(len(json.dumps(text)) for text in batch) <= BATCH_BYTES


def test_a_text_that_no_call_takes_is_refused() -> None:
    with pytest.raises(UsageError):
        list(batches(["x" * 3 * BATCH_BYTES]))
