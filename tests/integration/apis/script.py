"""The requests that are sent to both brokers, in their order: every API in every version.

Topics are made by the script itself and begin with PREFIX. Times in records are fixed, so that the bytes of
both brokers' logs have to be the same.
Runs in: the test process. No state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from broker.protocol.api_keys import ApiKey
from broker.protocol.messages import request_class
from tests.integration.apis.brokers import BROKER_ID, Topic
from tests.integration.apis.records import LegacyMessage, batch, message_set, with_header
from tests.integration.apis.requests import (
    READ_COMMITTED,
    FetchRequest,
    fetch_partition,
    fetch_request,
    produce_request,
)
from tests.integration.apis.wire import versions

PREFIX = "diff-"
UNKNOWN_ID = bytes(range(16))
DEAD_BROKER = 77
FIXED_TIME_MS = 1_700_000_000_000
HUGE = 2**31 - 1


class World:
    """One broker's side: what the requests have to take from its own answers."""

    def __init__(self, find_topic: Callable[[str], Topic]) -> None:
        self._find_topic = find_topic
        self._topics: dict[str, Topic] = {}
        self.session_id = 0

    def topic(self, name: str) -> Topic:
        """A topic that exists, with this broker's id for it."""
        if name not in self._topics:
            self._topics[name] = self._find_topic(name)
        return self._topics[name]


@dataclass(frozen=True, slots=True)
class Step:
    """One request. silent: no answer is expected (acks 0)."""

    name: str
    api_key: ApiKey
    version: int
    build: Callable[[World], Any]
    silent: bool = False


def step(what: str, key: ApiKey, version: int, build: Callable[[World], Any], silent: bool = False) -> Step:
    return Step(f"{key.name} v{version}: {what}", key, version, build, silent)


def always(message: Any) -> Callable[[World], Any]:
    return lambda world: message


def steps() -> list[Step]:
    parts = (api_versions, metadata, create_topics, create_partitions, configs, cluster, producer_ids, produce,
             list_offsets, epochs, fetch, fetch_sessions, log_dirs, delete_topics, handshake)  # fmt: skip
    script = [each for part in parts for each in part()]
    names = [each.name for each in script]
    repeated = sorted({name for name in names if names.count(name) > 1})
    assert not repeated, f"names of steps have to be unique: {repeated}"
    return script


# Cluster and topics


def api_versions() -> Iterator[Step]:
    request = request_class(ApiKey.API_VERSIONS)
    for version in versions(ApiKey.API_VERSIONS):
        software = {"client_software_name": "diff", "client_software_version": "1"} if version >= 3 else {}
        yield step("what is served", ApiKey.API_VERSIONS, version, always(request(**software)))
    for version in (3, 4):
        yield step("bad software name", ApiKey.API_VERSIONS, version, always(request(client_software_name="-")))


def metadata() -> Iterator[Step]:
    key, request = ApiKey.METADATA, request_class(ApiKey.METADATA)
    make = request_class(ApiKey.CREATE_TOPICS)
    for name, partitions in (("diff-m", 3), ("diff-m2", 1)):
        topic = make.CreatableTopic(name=name, num_partitions=partitions, replication_factor=1)
        yield step(name, ApiKey.CREATE_TOPICS, 7, always(make(topics=[topic], timeout_ms=10_000)))

    def asks(*names: str | None, topic_id: bytes = bytes(16)) -> list[Any]:
        return [request.MetadataRequestTopic(name=name, topic_id=topic_id) for name in names]

    for version in versions(key):
        flags: dict[str, Any] = {"allow_auto_topic_creation": False} if version >= 4 else {}
        if version >= 8:
            flags["include_topic_authorized_operations"] = True
        if 8 <= version <= 10:
            flags["include_cluster_authorized_operations"] = True
        yield step("two topics", key, version, always(request(topics=asks("diff-m", "diff-m2", "diff-m"), **flags)))
        if version >= 1:
            yield step("none", key, version, always(request(topics=[], **flags)))
        if version >= 4:
            unknown = asks("diff-missing", "a b", "", "__consumer_offsets")
            yield step("unknown topics", key, version, always(request(topics=unknown, **flags)))
        else:
            yield step("illegal names", key, version, always(request(topics=asks("a b", "", ".."))))
        new = asks(f"diff-auto-{version}", "diff-m2", "diff.m2-bad name")
        yield step("creation", key, version, always(request(topics=new)))
        if version >= 10:
            yield step("unknown id", key, version, always(request(topics=asks(None, topic_id=UNKNOWN_ID), **flags)))
            yield step("known id", key, version, lambda world, flags=flags: request(  # type: ignore[misc]
                topics=asks(None, topic_id=world.topic("diff-m").id), **flags))  # fmt: skip
            yield step("name and id", key, version, lambda world, flags=flags: request(  # type: ignore[misc]
                topics=asks("diff-m2", topic_id=world.topic("diff-m").id), **flags))  # fmt: skip
            yield step("neither name nor id", key, version, always(request(topics=asks(None), **flags)))


def creatable(
    name: str, partitions: int = 1, replicas: int = 1, configs: Mapping[str, str | None] | None = None,
    assignment: Sequence[tuple[int, list[int]]] = (),
) -> Any:  # fmt: skip
    make = request_class(ApiKey.CREATE_TOPICS)
    return make.CreatableTopic(
        name=name, num_partitions=partitions, replication_factor=replicas,
        assignments=[make.CreatableReplicaAssignment(partition_index=index, broker_ids=ids)
                     for index, ids in assignment],
        configs=[make.CreatableTopicConfig(name=key, value=value) for key, value in (configs or {}).items()],
    )  # fmt: skip


def create_topics() -> Iterator[Step]:
    key, request = ApiKey.CREATE_TOPICS, request_class(ApiKey.CREATE_TOPICS)
    for version in versions(key):
        own = f"diff-c{version}"
        cases = {
            "plain": creatable(own, 2),
            "with configs": creatable(f"{own}-configs", 1, 1, {"retention.ms": "99", "segment.bytes": "5000"}),
            "again": creatable(own),
            "defaults": creatable(f"{own}-defaults", -1, -1),
            "assigned": creatable(f"{own}-assigned", -1, -1, assignment=[(0, [1]), (1, [1])]),
            "dead replica": creatable(f"{own}-dead", -1, -1, assignment=[(0, [1, DEAD_BROKER])]),
            "no partitions": creatable(f"{own}-x", 0),
            "no replicas": creatable(f"{own}-x", 1, 0),
            "too many replicas": creatable(f"{own}-x", 1, 2),
            "bad name": creatable("a b"),
            "empty name": creatable(""),
            "unknown config": creatable(f"{own}-x", configs={"no.such": "1"}),
            "bad config": creatable(f"{own}-x", configs={"retention.ms": "x"}),
            "null config": creatable(f"{own}-x", configs={"retention.ms": None}),
            "compacted": creatable(f"{own}-compact", configs={"cleanup.policy": "compact"}),
            "recompressed": creatable(f"{own}-lz4", configs={"compression.type": "lz4"}),
            "gap in assignment": creatable(f"{own}-x", -1, -1, assignment=[(0, [1]), (2, [1])]),
            "negative partition": creatable(f"{own}-x", -1, -1, assignment=[(-1, [1])]),
            "uneven assignment": creatable(f"{own}-x", -1, -1, assignment=[(0, [1]), (1, [1, 2])]),
            "count and assignment": creatable(f"{own}-x", 1, 1, assignment=[(0, [1])]),
            "reserved": creatable("__cluster_metadata"),
        }
        for what, topic in cases.items():
            yield step(what, key, version, always(request(topics=[topic], timeout_ms=10_000)))
        yield step("twice", key, version, always(request(topics=[creatable("diff-2x"), creatable("diff-2x", 3)])))
        no_time = request(topics=[creatable(f"{own}-0")], timeout_ms=0)
        yield step("no time", key, version, always(no_time))
        if version >= 1:
            checked = request(topics=[creatable(f"{own}-check", 3), creatable("", 0)], validate_only=True)
            yield step("validate only", key, version, always(checked))


def create_partitions() -> Iterator[Step]:
    key, request = ApiKey.CREATE_PARTITIONS, request_class(ApiKey.CREATE_PARTITIONS)

    def grown(name: str, count: int, assigned: list[list[int]] | None = None) -> Any:
        given = None
        if assigned is not None:
            given = [request.CreatePartitionsAssignment(broker_ids=ids) for ids in assigned]
        return request.CreatePartitionsTopic(name=name, count=count, assignments=given)

    for version in versions(key):
        own = f"diff-p{version}"
        yield step(own, ApiKey.CREATE_TOPICS, 7, always(
            request_class(ApiKey.CREATE_TOPICS)(topics=[creatable(own)], timeout_ms=10_000)))  # fmt: skip
        cases = {
            "more": grown(own, 3), "the same": grown(own, 3), "fewer": grown(own, 1), "none": grown(own, 0),
            "missing": grown("diff-missing", 2), "bad name": grown("a b", 2), "two dots": grown("..", 2),
            "empty name": grown("", 2), "assigned": grown(own, 4, [[1]]), "wrongly": grown(own, 6, [[1]]),
            "dead": grown(own, 5, [[DEAD_BROKER]]), "twice the same": grown(own, 5, [[1, 1]]),
            "nobody": grown(own, 5, [[]]), "nothing": grown(own, 5, []),
        }  # fmt: skip
        for what, topic in cases.items():
            yield step(what, key, version, always(request(topics=[topic], timeout_ms=10_000)))
        twice = [grown(own, 5), grown(own, 6), grown("diff-missing", 2)]
        yield step("twice", key, version, always(request(topics=twice, timeout_ms=10_000)))
        checked = request(topics=[grown(own, 9), grown(own + "x", 2)], validate_only=True)
        yield step("validate only", key, version, always(checked))
        yield step("no time", key, version, always(request(topics=[grown(own, 5)], timeout_ms=0)))


def configs() -> Iterator[Step]:
    key, request = ApiKey.DESCRIBE_CONFIGS, request_class(ApiKey.DESCRIBE_CONFIGS)

    def resource(kind: int, name: str, keys: list[str] | None = None) -> Any:
        return request.DescribeConfigsResource(resource_type=kind, resource_name=name, configuration_keys=keys)

    resources = {
        "topic": [resource(2, "diff-c5-configs")],
        "plain topic": [resource(2, "diff-m")],
        "broker": [resource(4, str(BROKER_ID))],
        "all brokers": [resource(4, "")],
        "some keys": [resource(2, "diff-m", ["segment.ms", "x"]), resource(4, "1", ["log.segment.bytes"])],
        "no keys": [resource(2, "diff-m", [])],
        "errors": [resource(2, "diff-missing"), resource(2, "a b"), resource(4, "9"), resource(4, "x")],
        "loggers": [resource(8, str(BROKER_ID))],
        "client metrics": [resource(16, "x"), resource(16, "")],
        "strange type": [resource(99, "x"), resource(4, "")],
    }
    for version in versions(key):
        for what, wanted in resources.items():
            yield step(what, key, version, always(request(resources=wanted)))
            if version >= 1:
                described = request(resources=wanted, include_synonyms=True)
                yield step(f"{what}, synonyms", key, version, always(described))
        if version >= 3:
            documented = request(resources=resources["plain topic"], include_documentation=True)
            yield step("documentation", key, version, always(documented))


def cluster() -> Iterator[Step]:
    key, request = ApiKey.DESCRIBE_CLUSTER, request_class(ApiKey.DESCRIBE_CLUSTER)
    for version in versions(key):
        yield step("plain", key, version, always(request()))
        yield step("operations", key, version, always(request(include_cluster_authorized_operations=True)))
    for kind in (0, 2, 3):
        yield step(f"endpoints of type {kind}", key, 1, always(request(endpoint_type=kind)))


def handshake() -> Iterator[Step]:
    request = request_class(ApiKey.SASL_HANDSHAKE)
    for version in versions(ApiKey.SASL_HANDSHAKE):
        yield step("plain", ApiKey.SASL_HANDSHAKE, version, always(request(mechanism="PLAIN")))


def producer_ids() -> Iterator[Step]:
    key, request = ApiKey.INIT_PRODUCER_ID, request_class(ApiKey.INIT_PRODUCER_ID)
    yield step("first", key, 0, always(request(transactional_id=None, transaction_timeout_ms=1000)))
    for version in versions(key):
        cases: dict[str, dict[str, Any]] = {"null": {"transactional_id": None}, "empty": {"transactional_id": ""}}
        if version >= 3:
            cases["named"] = {"transactional_id": None, "producer_id": 4, "producer_epoch": 2}
            cases["half named"] = {"transactional_id": None, "producer_id": 4}
        for what, fields in cases.items():
            yield step(what, key, version, always(request(transaction_timeout_ms=1000, **fields)))


# Records


def timed(*values: bytes, **arguments: Any) -> bytes:
    """A batch with times that do not depend on when it is made."""
    return batch(*values, timestamps=[FIXED_TIME_MS + index for index in range(len(values))], **arguments)


def cases_that_differ() -> dict[str, bytes]:
    """What the two brokers take differently, and so goes to topics that nobody reads: see `KNOWN`."""
    return {
        "high max timestamp": with_header(timed(b"a", b"b"), max_timestamp=FIXED_TIME_MS + 999),
        "count and delta too high": with_header(timed(b"a"), record_count=2, last_offset_delta=1),
        "count and delta too low": with_header(timed(b"a", b"b"), record_count=1, last_offset_delta=0),
        "format 1": message_set([LegacyMessage(1, b"old", FIXED_TIME_MS)]),
        "format 0": message_set([LegacyMessage(0, b"old")]),
    }


def record_cases() -> dict[str, bytes]:
    one = timed(b"value")
    return {
        "one": one,
        "three": timed(b"a", b"b", b"c"),
        "gzip": timed(b"a" * 50, b"b", codec=1),
        "snappy": timed(b"a" * 50, b"b", codec=2),
        "lz4": timed(b"a" * 50, b"b", codec=3),
        "zstd": timed(b"a" * 50, b"b", codec=4),
        "codec 5": with_header(one, attributes=5),
        "no max timestamp": with_header(timed(b"a", b"b"), max_timestamp=-1),
        "low max timestamp": with_header(timed(b"a", b"b"), max_timestamp=5),
        "no timestamps": batch(b"a", timestamps=[-1]),
        "append time bit": with_header(one, attributes=8),
        "unknown attribute": with_header(one, attributes=0x80),
        "delete horizon": with_header(one, attributes=0x40),
        "two batches": one + one,
        "trailing byte": one + b"\0",
        "trailing part": one + one[:30],
        "nothing": b"",
        "short": one[:40],
        "zeros": bytes(70),
        "length too small": with_header(one, batch_length=20),
        "magic 3": with_header(one, magic=3),
        "bad crc": with_header(one, crc=7),
        "base offset": with_header(one, base_offset=3),
        "leader epoch": with_header(one, partition_leader_epoch=44),
        "count 0": with_header(one, record_count=0),
        "count 2": with_header(one, record_count=2),
        "control": with_header(one, attributes=0x20),
        "sequence missing": with_header(one, producer_id=900, producer_epoch=0),
        "idempotent 0": timed(b"a", b"b", producer=(901, 0, 0)),
        "idempotent 0 again": timed(b"a", b"b", producer=(901, 0, 0)),
        "idempotent gap": timed(b"a", producer=(901, 0, 5)),
        "idempotent 2": timed(b"a", producer=(901, 0, 2)),
        "idempotent new epoch": timed(b"a", producer=(901, 1, 0)),
        "idempotent old epoch": timed(b"a", producer=(901, 0, 3)),
        "idempotent negative epoch": timed(b"a", producer=(902, -1, 0)),
        "sequence without producer": timed(b"a", producer=(-1, -1, 7)),
        "transactional": with_header(timed(b"a", producer=(903, 0, 0)), attributes=0x10),
        "too large": timed(bytes(1_100_000)),
    }


def produce() -> Iterator[Step]:
    key = ApiKey.PRODUCE
    cases = record_cases()
    for version in versions(key):
        own = f"diff-r{version}"
        yield step(own, ApiKey.CREATE_TOPICS, 7, always(
            request_class(ApiKey.CREATE_TOPICS)(topics=[creatable(own, 2)], timeout_ms=10_000)))  # fmt: skip
        for what, records in cases.items():
            yield step(what, key, version, always(produce_request({own: {0: records}})))
        for what, records in cases_that_differ().items():
            yield step(what, key, version, always(produce_request({f"diff-c{version}": {0: records}})))
        one = cases["one"]
        for acks in (0, 1, 2, -2):
            request = always(produce_request({own: {0: one}}, acks))
            yield step(f"acks {acks}", key, version, request, silent=acks == 0)
        several = {own: {1: one, 0: one, 9: one}, "diff-missing": {0: one}, "": {0: one}}
        yield step("several", key, version, always(produce_request(several)))
        twice = produce_request({own: {1: one}})
        twice.topic_data = twice.topic_data * 2
        yield step("a partition twice", key, version, always(twice))
        if version >= 3:
            named = produce_request({own: {1: one}}, transactional_id="tx")
            yield step("transactional id", key, version, always(named))
        yield step("no topics", key, version, always(produce_request({})))
        yield step("no partitions", key, version, always(produce_request({own: {}})))
        yield step("internal", key, version, always(produce_request({"__consumer_offsets": {0: one}})))
    yield from produce_to_special_topics()


def produce_to_special_topics() -> Iterator[Step]:
    special = {
        "diff-stamped": {"message.timestamp.type": "LogAppendTime"},
        "diff-bounded": {"message.timestamp.before.max.ms": "1000", "message.timestamp.after.max.ms": "1000"},
        "diff-small": {"max.message.bytes": "200"},
        "diff-segments": {"segment.bytes": "1000", "retention.ms": "-1", "index.interval.bytes": "100"},
        "diff-thin": {"min.insync.replicas": "2"},
    }
    make = request_class(ApiKey.CREATE_TOPICS)
    for name, settings in special.items():
        assignment = [(0, [1, DEAD_BROKER])] if name == "diff-thin" else [(0, [1])]
        topic = creatable(name, -1, -1, settings, assignment)
        yield step(name, ApiKey.CREATE_TOPICS, 7, always(make(topics=[topic], timeout_ms=500)))
        for version in (3, 7, 8, 11):
            for what, records in record_cases().items():
                if what in ("one", "three", "lz4", "append time bit", "no timestamps", "idempotent 0",
                            "idempotent 0 again", "too large"):  # fmt: skip
                    request = produce_request({name: {0: records}}, acks=-1)
                    yield step(f"{what} to {name}", ApiKey.PRODUCE, version, always(request))
    for index in range(30):
        request = produce_request({"diff-segments": {0: batch(b"v" * 100, timestamps=[1000 + index])}})
        yield step(f"segment {index}", ApiKey.PRODUCE, 9, always(request))
    unseen = produce_request({"diff-thin": {0: timed(b"x")}}, acks=1)
    yield step("acks 1 to diff-thin", ApiKey.PRODUCE, 9, always(unseen))


READ_TOPICS = ("diff-r9", "diff-segments", "diff-thin", "diff-m")


def list_offsets() -> Iterator[Step]:
    key, request = ApiKey.LIST_OFFSETS, request_class(ApiKey.LIST_OFFSETS)
    for version in versions(key):
        count = {"max_num_offsets": 3} if version == 0 else {}
        for name in READ_TOPICS:
            for timestamp in (-1, -2, -3, -4, -5, -6, 0, 1005, 1029, 1030, FIXED_TIME_MS, FIXED_TIME_MS + 1, 2**60):
                if version == 0 and timestamp > 0:
                    continue
                wanted = request.ListOffsetsPartition(timestamp=timestamp, **count)
                topics = [request.ListOffsetsTopic(name=name, partitions=[wanted])]
                for replica_id in (-1, -2, 5) if timestamp in (-1, FIXED_TIME_MS) else (-1,):
                    asked = request(replica_id=replica_id, topics=topics)
                    what = f"{timestamp} of {name} for {replica_id}"
                    yield step(what, key, version, always(asked))
        strange = [
            request.ListOffsetsTopic(name=name, partitions=[
                request.ListOffsetsPartition(partition_index=index, timestamp=-1) for index in indexes])
            for name, indexes in (("diff-m", [0, 7, 1, 0]), ("diff-missing", [0]), ("", [0]))
        ]  # fmt: skip
        yield step("strange partitions", key, version, always(request(replica_id=-1, topics=strange)))
        yield step("nothing", key, version, always(request(replica_id=-1)))
        if version >= 2:
            wanted = request.ListOffsetsPartition(timestamp=-1)
            topics = [request.ListOffsetsTopic(name="diff-r9", partitions=[wanted])]
            committed = request(replica_id=-1, isolation_level=READ_COMMITTED, topics=topics)
            yield step("read committed", key, version, always(committed))
        if version >= 4:
            for epoch in (-1, 0, 1):
                wanted = request.ListOffsetsPartition(timestamp=-1, current_leader_epoch=epoch)
                topics = [request.ListOffsetsTopic(name="diff-r9", partitions=[wanted])]
                asked = request(replica_id=-1, topics=topics)
                yield step(f"leader epoch {epoch}", key, version, always(asked))


def epochs() -> Iterator[Step]:
    key, request = ApiKey.OFFSET_FOR_LEADER_EPOCH, request_class(ApiKey.OFFSET_FOR_LEADER_EPOCH)
    for version in versions(key):
        for epoch in (-2, -1, 0, 1, HUGE):
            for current in (-1, 0, 1) if version >= 2 else (-1,):
                wanted = request.OffsetForLeaderPartition(leader_epoch=epoch, current_leader_epoch=current)
                topics = [request.OffsetForLeaderTopic(topic="diff-r9", partitions=[wanted])]
                what = f"epoch {epoch} at {current}"
                yield step(what, key, version, always(request(replica_id=-2, topics=topics)))
        strange = [request.OffsetForLeaderTopic(topic=name, partitions=[
            request.OffsetForLeaderPartition(partition=index, leader_epoch=0) for index in indexes])
            for name, indexes in (("diff-m", [0, 7]), ("diff-missing", [0]))]  # fmt: skip
        yield step("strange partitions", key, version, always(request(replica_id=-2, topics=strange)))
        yield step("nothing", key, version, always(request(replica_id=-2)))


# Fetch


UNKNOWN_TOPIC = Topic("diff-missing", UNKNOWN_ID)


def fetch() -> Iterator[Step]:
    for version in versions(ApiKey.FETCH):
        yield from fetch_one(version)
        yield from fetch_several(version)
    for version in (12, 17):
        for fields in ({"replica_id": 5}, {"isolation_level": READ_COMMITTED}):
            yield step(f"{fields}", ApiKey.FETCH, version, with_fields(version, fields))


def with_fields(version: int, fields: Mapping[str, Any]) -> Callable[[World], Any]:
    """A fetch of one partition with other fields of the request."""

    def build(world: World) -> Any:
        request = fetch_request(version, [(world.topic("diff-r9"), [fetch_partition()])])
        for name, value in fields.items():
            if name == "replica_id" and version >= 15:
                request.replica_state = FetchRequest.ReplicaState(replica_id=value)
            else:
                setattr(request, name, value)
        return request

    return build


def fetch_one(version: int) -> Iterator[Step]:
    def one(what: str, name: str, offset: int, **options: Any) -> Step:
        partition_options = options.pop("partition", {})

        def build(world: World) -> Any:
            wanted = fetch_partition(0, offset, **partition_options)
            return fetch_request(version, [(world.topic(name), [wanted])], **options)

        return step(what, ApiKey.FETCH, version, build)

    for name in READ_TOPICS:
        for offset in (-1, 0, 1, 2, 5, 17, 29, 30, 31, 1000):
            yield one(f"{name} at {offset}", name, offset)
    for size in (0, 1, 100, 300, 1000):
        yield one(f"partition max bytes {size}", "diff-r9", 0, partition={"max_bytes": size})
        if version >= 3:
            yield one(f"max bytes {size}", "diff-r9", 0, max_bytes=size)
    yield one("waiting", "diff-m", 0, max_wait_ms=30)
    yield one("waiting for more", "diff-r9", 0, max_wait_ms=30, min_bytes=10**6)
    if version >= 4:
        yield one("read committed", "diff-r9", 0, isolation_level=READ_COMMITTED)
    if version >= 9:
        for epoch in (-1, 0, 1):
            yield one(f"leader epoch {epoch}", "diff-r9", 0, partition={"current_leader_epoch": epoch})
    if version >= 12:
        for offset, epoch in ((0, 0), (0, 3), (3, 0), (2000, 0), (0, -1)):
            wanted = {"last_fetched_epoch": epoch}
            yield one(f"last fetched epoch {epoch} at {offset}", "diff-r9", offset, partition=wanted)


def fetch_several(version: int) -> Iterator[Step]:
    def several(what: str, *wanted: tuple[str, list[int]], **options: Any) -> Step:
        def build(world: World) -> Any:
            topics = [
                (UNKNOWN_TOPIC if name == UNKNOWN_TOPIC.name else world.topic(name),
                 [fetch_partition(number) for number in numbers])
                for name, numbers in wanted
            ]  # fmt: skip
            return fetch_request(version, topics, **options)

        return step(what, ApiKey.FETCH, version, build)

    yield several("nothing")
    yield several("two topics", ("diff-r9", [1, 0]), ("diff-m", [2, 0, 1]), ("diff-r9", [1]))
    yield several("unknown ones", ("diff-missing", [0]), ("diff-m", [9, 0]), ("diff-r9", [0]))
    if version >= 3:
        for size in (1, 500, 5000):
            yield several(f"two topics in {size}", ("diff-r9", [0, 1]), ("diff-segments", [0]), max_bytes=size)


def fetch_sessions() -> Iterator[Step]:
    for version in versions(ApiKey.FETCH, 7):
        yield from one_session(version)


def one_session(version: int) -> Iterator[Step]:
    """Its full fetch, several incremental ones, misuse, and its end."""

    def ask(
        what: str, epoch: int, *wanted: tuple[str, int, int], forgotten: Sequence[tuple[str, int]] = (),
        session: int | None = None, **options: Any,
    ) -> Step:  # fmt: skip
        def build(world: World) -> Any:
            session_id = world.session_id if session is None else session
            topics = [(world.topic(name), [fetch_partition(number, offset)]) for name, number, offset in wanted]
            gone = [(world.topic(name), [number]) for name, number in forgotten]
            return fetch_request(version, topics, session=(session_id, epoch), forgotten=gone, **options)

        return step(f"session: {what}", ApiKey.FETCH, version, build)

    own = f"diff-s{version}"
    yield step(own, ApiKey.CREATE_TOPICS, 7, always(
        request_class(ApiKey.CREATE_TOPICS)(topics=[creatable(own, 3)], timeout_ms=10_000)))  # fmt: skip
    yield ask("full", 0, (own, 0, 0), (own, 1, 0), ("diff-r9", 0, 0), session=0)
    yield ask("what came", 1)
    yield ask("onward", 2, ("diff-r9", 0, 3))
    yield step(f"{own} 1", ApiKey.PRODUCE, 9, always(produce_request({own: {1: timed(b"v")}})))
    yield ask("news", 3)
    yield ask("added", 4, (own, 2, 0))
    yield ask("out of range", 5, (own, 0, 99))
    yield ask("still out of range", 6)
    yield ask("back in range", 7, (own, 0, 0))
    yield ask("forgotten", 8, forgotten=[("diff-r9", 0)])
    yield ask("nothing new", 9, (own, 1, 1), max_wait_ms=20)
    yield ask("wrong epoch", 5)
    yield ask("unknown session", 1, session=123456)
    yield ask("all forgotten", 10, forgotten=[(own, 0), (own, 1), (own, 2)])
    yield ask("ended", 11)
    yield ask("no session", -1, (own, 1, 0), session=0)


# Directories and the end of topics


def log_dirs() -> Iterator[Step]:
    key, request = ApiKey.DESCRIBE_LOG_DIRS, request_class(ApiKey.DESCRIBE_LOG_DIRS)
    for version in versions(key):
        yield step("no topics", key, version, always(request(topics=[])))
        unknown = [request.DescribableLogDirTopic(topic="diff-missing", partitions=[0])]
        yield step("unknown", key, version, always(request(topics=unknown)))


def delete_topics() -> Iterator[Step]:
    key, request = ApiKey.DELETE_TOPICS, request_class(ApiKey.DELETE_TOPICS)
    for version in versions(key):
        names = [f"diff-c{version}", "diff-missing", "a b", "", f"diff-c{version}"]
        if version < 6:
            yield step("by name", key, version, always(request(topic_names=names, timeout_ms=20_000)))
            late = request(topic_names=[f"diff-c{version}-configs"], timeout_ms=0)
            yield step("no time", key, version, always(late))
    state = request.DeleteTopicState
    by_name = [state(name=name) for name in ("diff-c6", "diff-missing", "a b", "")]
    yield step("by name", key, 6, always(request(topics=by_name, timeout_ms=20_000)))
    yield step("by id", key, 6, lambda world: request(timeout_ms=20_000, topics=[
        state(name=None, topic_id=world.topic("diff-c7").id), state(name=None, topic_id=UNKNOWN_ID)]))  # fmt: skip
    yield step("both", key, 6, lambda world: request(timeout_ms=20_000, topics=[
        state(name="diff-m", topic_id=world.topic("diff-m").id), state(name="diff-missing")]))  # fmt: skip
    yield step("neither", key, 6, always(request(timeout_ms=20_000, topics=[state(name=None)])))
