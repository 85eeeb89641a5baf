"""The shortcut for a Produce of one partition that went well gives the bytes of the full encoder."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from broker.protocol.hot_produce import VERSION_MAX, encode_produce_response, encode_single_success

INT64 = st.integers(-(2**63), 2**63 - 1)


@given(
    st.integers(0, VERSION_MAX), st.integers(-(2**31), 2**31 - 1), st.text("abc._-", min_size=1, max_size=249),
    st.integers(0, 2**31 - 1), st.tuples(INT64, INT64, INT64),
)  # fmt: skip
def test_equals_the_full_encoder(
    version: int, correlation_id: int, topic: str, partition: int, offsets: tuple[int, int, int]
) -> None:
    full = [(topic, [(partition, 0, *offsets, (), None, None)])]
    expected = encode_produce_response(version, correlation_id, full, 0)
    assert encode_single_success(version, correlation_id, topic, partition, offsets) == expected
