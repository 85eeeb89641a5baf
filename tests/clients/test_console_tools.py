"""Kafka's Java console producer and console consumer (one partition at a time, so without a group)."""
from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.clients.dataset import RECORDS_FULL, Record, digest, expected_plain_digests, make_plain_record
from tests.clients.programs import ALL_CODECS
from tests.conftest import Target
from tests.peers.java_tools import JavaTools


def _parse(output: str) -> list[Record]:
    records = []
    for line in output.splitlines():
        offset, key, value = line.removeprefix("Offset:").split("\t")
        records.append(Record(int(offset), 0, key.encode(), value.encode()))
    return records


@pytest.mark.parametrize(
    "codec", [pytest.param(each, marks=() if each == "lz4" else pytest.mark.slow) for each in ALL_CODECS]
)
def test_lines_come_back_as_written(
    codec: str, java_tools: JavaTools, target: Target, make_topic: Callable[..., str]
) -> None:
    topic = make_topic(partitions=1)
    records = (make_plain_record(index, 1) for index in range(RECORDS_FULL))
    lines = "".join(f"{record.key.decode()}\t{record.value.decode()}\n" for record in records)
    server = ("--bootstrap-server", target.bootstrap, "--topic", topic)
    parse = ("--property", "parse.key=true", "--property", "key.separator=\t")
    producing = (*server, "--compression-codec", codec, *parse)
    java_tools.run("kafka.tools.ConsoleProducer", *producing, input_text=lines)
    printing = [f"print.{what}=true" for what in ("offset", "key")] + ["key.separator=\t"]
    properties = [argument for each in printing for argument in ("--property", each)]
    limits = ("--max-messages", str(RECORDS_FULL), "--timeout-ms", "30000")
    where = ("--partition", "0", "--offset", "earliest")
    main_class = "org.apache.kafka.tools.consumer.ConsoleConsumer"
    output = java_tools.run(main_class, *server, *where, *limits, *properties).stdout
    assert (digest(_parse(output)),) == expected_plain_digests(RECORDS_FULL, 1)
