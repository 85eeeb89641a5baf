"""The bench that a test's connections are made on; at its end no slab may be in use."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio

from tests.broker.network.harness import Bench


@pytest.fixture
async def bench(nursery: trio.Nursery) -> AsyncIterator[Bench]:
    bench = Bench(nursery)
    yield bench
    await bench.close()
