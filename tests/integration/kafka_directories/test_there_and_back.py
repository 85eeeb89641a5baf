"""Promise 1, swap the binary and swap back: on directories of a real Kafka 3.9.1, embedded metadata.

Steps and data: stories.py. Bytes are compared as a fetch hands them out, so offsets, times, codecs, producers
and leader epochs are all compared with them.
"""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from broker.protocol.errors import ErrorCode
from storage.checkpoint.leader_epoch_checkpoint import LEADER_EPOCH_CHECKPOINT, read_leader_epoch_checkpoint
from storage.log.file_names import DirectoryKind, parse_partition_directory
from storage.record.batch import iterate_headers
from storage.record.records import iterate_records
from tests.integration.kafka_directories.settings import (
    COMPACTED_TOPIC,
    EMPTY_TOPIC,
    TRANSACTION_TOPIC,
    TRIMMED_TOPIC,
)
from tests.integration.kafka_directories.stories import NEW_TOPIC, Repeated, Story
from tests.integration.kafka_directories.views import PartitionView, Place
from tests.integration.kafka_directories.writer import TRIMMED_TO, Sequence
from tests.integration.kafka_directories.znodes import METADATA_FILE, leader_epochs, topics
from tests.peers.java_tools import JavaTools

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]

# What on-disk.md (Kafka's loader) knows of files beside the partitions, and the one that is ours.
KAFKAS_FILES = {
    ".kafka_cleanshutdown", ".lock", "cleaner-offset-checkpoint", "log-start-offset-checkpoint", "meta.properties",
    "recovery-point-offset-checkpoint", "replication-offset-checkpoint",
}


def check_repeated(repeated: Repeated, sequence: Sequence) -> None:
    """The duplicate is answered with the offset it got at first; neither it nor the gap is appended."""
    assert (repeated.duplicate.error_code, repeated.duplicate.base_offset) == (0, sequence.last_base_offset)
    assert repeated.gap.error_code == ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert repeated.end_after == repeated.end_before == sequence.last_base_offset + 3


def latest(data: bytes) -> dict[bytes | None, tuple[int, bytes | None]]:
    """What compaction may not change: offset and value of each key's newest record."""
    return {record.key: (record.offset, record.value) for position, _ in iterate_headers(data)
            for record in iterate_records(data, position, output_size_bytes_max=1 << 24)}


def comparable(place: Place, view: PartitionView) -> Any:
    """Of a compacted partition, which either broker may compact at any moment, what has to stay."""
    if place[0] != COMPACTED_TOPIC:
        return view
    return view._replace(data=b"", times=()), latest(view.data)


# Ottla on Kafka's directories


def test_every_partition_is_served_as_kafka_served_it(story: Story) -> None:
    expected = story.kafka_part.view
    assert story.opened.view.keys() == expected.keys()
    for place, view in expected.items():
        assert comparable(place, story.opened.view[place]) == comparable(place, view), place


def test_the_directories_held_what_they_should(story: Story) -> None:
    """Else the comparison above would say little."""
    view = story.kafka_part.view
    directory = getattr(story.kafka_part, story.kind)
    assert (directory / ".kafka_cleanshutdown").exists() == (story.kind == "clean")
    assert view[TRIMMED_TOPIC, 0].log_start_offset == TRIMMED_TO
    assert len(view[TRANSACTION_TOPIC, 0].aborted) == len(view[TRANSACTION_TOPIC, 1].aborted) == 10
    unended = view[TRANSACTION_TOPIC, 2]
    assert (unended.last_stable_offset, unended.high_watermark) == (1, 4)
    assert view[EMPTY_TOPIC, 0].data == b""
    for topic in ("codecs", "transactions", COMPACTED_TOPIC, TRIMMED_TOPIC, "idempotent"):
        assert len(list((directory / f"{topic}-0").glob("*.log"))) > 1, topic


def test_read_committed_hides_what_was_aborted(story: Story) -> None:
    for partition, values in story.kafka_part.written.committed.items():
        assert story.opened.committed[TRANSACTION_TOPIC, partition] == values


def test_metadata_are_made_anew_as_kafka_had_them(story: Story) -> None:
    theirs = topics(story.kafka_part.nodes)
    ours = {name: node for name, node in topics(story.nodes).items() if name in theirs}
    for name, node in theirs.items():
        assert {key: ours[name][key] for key in ("topic_id", "partitions")} \
            == {key: node[key] for key in ("topic_id", "partitions")}, name
    assert story.nodes["/cluster/id"] == story.kafka_part.nodes["/cluster/id"]
    assert "configuration overrides" in story.opened.log_text


def test_leader_epochs_lie_above_all_that_kafka_used(story: Story) -> None:
    epochs = leader_epochs(story.nodes)
    for topic, number in story.kafka_part.view:
        path = getattr(story.kafka_part, story.kind) / f"{topic}-{number}" / LEADER_EPOCH_CHECKPOINT
        highest = max(entry.epoch for entry in read_leader_epoch_checkpoint(str(path)))
        assert epochs[topic, number] > highest


def test_compacted_topic_stays_compacted(story: Story) -> None:
    for topic in (COMPACTED_TOPIC, "__transaction_state"):
        config = json.loads(story.nodes[f"/config/topics/{topic}"] or b"")["config"]
        assert config["cleanup.policy"] == "compact"


# Ottla goes on where Kafka stopped


def test_idempotent_producer_goes_on_with_its_sequence(story: Story) -> None:
    for sequence, repeated in zip(story.kafka_part.written.sequences, story.appended.repeated, strict=True):
        check_repeated(repeated, sequence)
    for before, after in zip(story.kafka_part.written.sequences, story.appended.sequences, strict=True):
        assert after.last_base_offset == before.last_base_offset + 16 * 3


def test_new_producer_ids_lie_above_all_that_kafka_gave(story: Story) -> None:
    block = json.loads(story.kafka_part.nodes["/latest_producer_id_block"] or b"")
    assert story.appended.new_producer_id > max(each.producer_id for each in story.kafka_part.written.sequences)
    assert story.appended.new_producer_id > int(block["block_start"])


def test_appends_come_behind_what_was_there(story: Story) -> None:
    for place, before in story.kafka_part.view.items():
        after = story.appended.view[place]
        if place[0] == COMPACTED_TOPIC:
            assert latest(after.data).keys() >= latest(before.data).keys(), place
        else:
            assert after.data.startswith(before.data), place
        grew = place[0] not in (EMPTY_TOPIC, "__transaction_state")
        assert (after.high_watermark > before.high_watermark) == grew, place


def test_unended_transaction_holds_the_stable_offset(story: Story) -> None:
    view = story.appended.view[TRANSACTION_TOPIC, 2]
    assert (view.last_stable_offset, view.high_watermark) == (1, 64)


# What Ottla leaves


def test_log_directory_holds_only_what_kafka_tolerates(story: Story) -> None:
    """Kafka refuses unknown directories and passes plain files by."""
    assert story.ended in (0, None)
    marker = story.log_dir / ".kafka_cleanshutdown"
    assert marker.exists() == (story.ended == 0)
    others = set()
    for entry in story.log_dir.iterdir():
        if entry.is_dir():
            assert parse_partition_directory(entry.name).kind is DirectoryKind.LIVE
        elif entry.name not in KAFKAS_FILES:
            others.add(entry.name)
    assert METADATA_FILE in others
    assert all(name.startswith(METADATA_FILE) for name in others), others


def partition_files(story: Story, *suffixes: str) -> list[Path]:
    return sorted(path for path in story.log_dir.glob("*-*/*") if path.suffix in suffixes)


def test_kafkas_own_reader_accepts_every_file(stories: dict[str, Story], java_tools: JavaTools) -> None:
    """One JVM for all files of both stories, one more for the indexes alone."""
    assert [story.ended for story in stories.values()] == [0, None]
    log_files = [path for story in stories.values() for path in partition_files(
        story, ".log", ".index", ".timeindex", ".txnindex", ".snapshot")]
    indexes = [path for story in stories.values() for path in partition_files(story, ".index", ".timeindex")]
    assert len(log_files) > 2 * len(stories["clean"].appended.view)
    complaints = java_tools.complaints_about_files(log_files, "--deep-iteration", "--verify-index-only")
    # What compaction leaves; the tool does not know the topic's configuration.
    assert [line for line in complaints
            if not ("Non-consecutive offsets" in line and f"/{COMPACTED_TOPIC}-0/" in line)] == []
    lines = java_tools.dump_log_segments(indexes, "--index-sanity-check").splitlines()
    empty = [path for path in indexes if path.stat().st_size == 0 and path.suffix == ".index"]
    assert {line for line in lines if line and not line.startswith("Dumping ")} \
        == {f"{path} passed sanity check." for path in indexes if path not in empty} \
        | {f"{path} is empty." for path in empty}


# Kafka on what Ottla left


def test_kafka_serves_what_ottla_served(story: Story) -> None:
    expected = story.appended.view
    assert any(topic == NEW_TOPIC for topic, _ in expected)
    assert story.returned.view.keys() == expected.keys()
    for place, view in expected.items():
        assert comparable(place, story.returned.view[place]) == comparable(place, view), place


def test_kafka_finds_no_fault_that_it_does_not_find_with_itself(story: Story) -> None:
    assert story.returned.complaints - story.kafka_part.complaints == set()


def test_kafka_takes_a_clean_stop_for_one(story: Story) -> None:
    text = story.returned.log_text
    assert ("since clean shutdown file was found" in text) == (story.ended == 0)
    assert ("Recovering unflushed segment" in text) == (story.ended is None)


def test_kafka_knows_the_producers_that_wrote_to_ottla(story: Story) -> None:
    for sequence, repeated in zip(story.appended.sequences, story.returned.repeated, strict=True):
        check_repeated(repeated, sequence)


def test_kafka_hides_what_was_aborted_before(story: Story) -> None:
    for partition, values in story.kafka_part.written.committed.items():
        read = story.returned.committed[TRANSACTION_TOPIC, partition]
        assert read[:len(values)] == values
        assert len(read) == len(values) + (0 if partition == 2 else 60)
