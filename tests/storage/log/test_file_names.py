from __future__ import annotations

import pytest

from storage.log.file_names import (
    NAME_LENGTH_MAX,
    DirectoryKind,
    PartitionDirectoryName,
    UnknownDirectoryError,
    delete_directory_name,
    offset_of_file_name,
    parse_partition_directory,
    segment_file_name,
)

UNIQUE_ID = "0123456789abcdef0123456789abcdef"


def test_segment_files_carry_their_base_offset_in_twenty_digits() -> None:
    assert segment_file_name(368769, ".log") == "00000000000000368769.log"
    assert offset_of_file_name("00000000000000368769.log.deleted") == 368769


@pytest.mark.parametrize("name", ["leader-epoch-checkpoint", "partition.metadata", "x0.log", ".lock", "12",
                                  "99999999999999999999.log"])
def test_other_names_hold_no_offset(name: str) -> None:
    assert offset_of_file_name(name) is None


@pytest.mark.parametrize(("name", "expected"), [
    ("orders-0", ("orders", 0, DirectoryKind.LIVE)),
    ("a-b.c_d-17", ("a-b.c_d", 17, DirectoryKind.LIVE)),
    ("ends-delete-3", ("ends-delete", 3, DirectoryKind.LIVE)),
    (f"orders-0.{UNIQUE_ID}-delete", ("orders", 0, DirectoryKind.DELETE)),
    (f"a.b-c-12.{UNIQUE_ID}-future", ("a.b-c", 12, DirectoryKind.FUTURE)),
    (f"orders-1.{UNIQUE_ID}-stray", ("orders", 1, DirectoryKind.STRAY)),
])
def test_partition_directories_say_topic_partition_and_kind(
        name: str, expected: tuple[str, int, DirectoryKind]) -> None:
    assert parse_partition_directory(name) == PartitionDirectoryName(*expected)


@pytest.mark.parametrize("name", ["lost+found", "orders", "-0", "orders-", "orders-x", "orders--1x",
                                  "orders-0-delete", "orders-99999999999", ".hidden"])
def test_a_directory_that_kafka_would_refuse_is_refused_with_its_name(name: str) -> None:
    with pytest.raises(UnknownDirectoryError, match="Move it elsewhere") as caught:
        parse_partition_directory(name)
    assert caught.value.name == name


def test_the_topic_of_a_deleted_directory_is_cut_to_fit_a_file_name() -> None:
    name = delete_directory_name("t" * 249, 123, UNIQUE_ID)
    assert len(name) == NAME_LENGTH_MAX
    assert name.endswith(f"-123.{UNIQUE_ID}-delete")
    assert delete_directory_name("orders", 0, UNIQUE_ID) == f"orders-0.{UNIQUE_ID}-delete"
