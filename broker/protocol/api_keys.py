"""Kafka's API keys: names, version ranges, and which header version each request and response carries.

The table is data so that ApiVersions, the frame parser and the tests read one source. It lists all 88 keys
of Kafka 3.9 (names matter in logs); only those marked `zk` exist on a ZooKeeper-mode broker and have
message definitions in `messages.txt`. What a listener really serves is decided by `broker.apis`.

Runs in: every process. Immutable after import.
"""
from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple


class ApiKey(IntEnum):
    PRODUCE = 0
    FETCH = 1
    LIST_OFFSETS = 2
    METADATA = 3
    LEADER_AND_ISR = 4
    STOP_REPLICA = 5
    UPDATE_METADATA = 6
    CONTROLLED_SHUTDOWN = 7
    OFFSET_COMMIT = 8
    OFFSET_FETCH = 9
    FIND_COORDINATOR = 10
    JOIN_GROUP = 11
    HEARTBEAT = 12
    LEAVE_GROUP = 13
    SYNC_GROUP = 14
    DESCRIBE_GROUPS = 15
    LIST_GROUPS = 16
    SASL_HANDSHAKE = 17
    API_VERSIONS = 18
    CREATE_TOPICS = 19
    DELETE_TOPICS = 20
    DELETE_RECORDS = 21
    INIT_PRODUCER_ID = 22
    OFFSET_FOR_LEADER_EPOCH = 23
    ADD_PARTITIONS_TO_TXN = 24
    ADD_OFFSETS_TO_TXN = 25
    END_TXN = 26
    WRITE_TXN_MARKERS = 27
    TXN_OFFSET_COMMIT = 28
    DESCRIBE_ACLS = 29
    CREATE_ACLS = 30
    DELETE_ACLS = 31
    DESCRIBE_CONFIGS = 32
    ALTER_CONFIGS = 33
    ALTER_REPLICA_LOG_DIRS = 34
    DESCRIBE_LOG_DIRS = 35
    SASL_AUTHENTICATE = 36
    CREATE_PARTITIONS = 37
    CREATE_DELEGATION_TOKEN = 38
    RENEW_DELEGATION_TOKEN = 39
    EXPIRE_DELEGATION_TOKEN = 40
    DESCRIBE_DELEGATION_TOKEN = 41
    DELETE_GROUPS = 42
    ELECT_LEADERS = 43
    INCREMENTAL_ALTER_CONFIGS = 44
    ALTER_PARTITION_REASSIGNMENTS = 45
    LIST_PARTITION_REASSIGNMENTS = 46
    OFFSET_DELETE = 47
    DESCRIBE_CLIENT_QUOTAS = 48
    ALTER_CLIENT_QUOTAS = 49
    DESCRIBE_USER_SCRAM_CREDENTIALS = 50
    ALTER_USER_SCRAM_CREDENTIALS = 51
    VOTE = 52
    BEGIN_QUORUM_EPOCH = 53
    END_QUORUM_EPOCH = 54
    DESCRIBE_QUORUM = 55
    ALTER_PARTITION = 56
    UPDATE_FEATURES = 57
    ENVELOPE = 58
    FETCH_SNAPSHOT = 59
    DESCRIBE_CLUSTER = 60
    DESCRIBE_PRODUCERS = 61
    BROKER_REGISTRATION = 62
    BROKER_HEARTBEAT = 63
    UNREGISTER_BROKER = 64
    DESCRIBE_TRANSACTIONS = 65
    LIST_TRANSACTIONS = 66
    ALLOCATE_PRODUCER_IDS = 67
    CONSUMER_GROUP_HEARTBEAT = 68
    CONSUMER_GROUP_DESCRIBE = 69
    CONTROLLER_REGISTRATION = 70
    GET_TELEMETRY_SUBSCRIPTIONS = 71
    PUSH_TELEMETRY = 72
    ASSIGN_REPLICAS_TO_DIRS = 73
    LIST_CLIENT_METRICS_RESOURCES = 74
    DESCRIBE_TOPIC_PARTITIONS = 75
    SHARE_GROUP_HEARTBEAT = 76
    SHARE_GROUP_DESCRIBE = 77
    SHARE_FETCH = 78
    SHARE_ACKNOWLEDGE = 79
    ADD_RAFT_VOTER = 80
    REMOVE_RAFT_VOTER = 81
    UPDATE_RAFT_VOTER = 82
    INITIALIZE_SHARE_GROUP_STATE = 83
    READ_SHARE_GROUP_STATE = 84
    WRITE_SHARE_GROUP_STATE = 85
    DELETE_SHARE_GROUP_STATE = 86
    READ_SHARE_GROUP_STATE_SUMMARY = 87


class ApiSpec(NamedTuple):
    """One API: `flexible_from` is the first flexible request version (None: never flexible);
    `zk_broker` is true for the APIs that a ZooKeeper-mode broker of Kafka 3.9 exposes."""

    key: ApiKey
    name: str
    min_version: int
    max_version: int
    flexible_from: int | None
    zk_broker: bool


# key, Kafka's name, versions, first flexible version, zk (ZooKeeper-mode broker) or raft (KRaft only)
_TABLE = """
 0 Produce                        0-11  9    zk
 1 Fetch                          0-17  12   zk
 2 ListOffsets                    0-9   6    zk
 3 Metadata                       0-12  9    zk
 4 LeaderAndIsr                   0-7   4    zk
 5 StopReplica                    0-4   2    zk
 6 UpdateMetadata                 0-8   6    zk
 7 ControlledShutdown             0-3   3    zk
 8 OffsetCommit                   0-9   8    zk
 9 OffsetFetch                    0-9   6    zk
10 FindCoordinator                0-6   3    zk
11 JoinGroup                      0-9   6    zk
12 Heartbeat                      0-4   4    zk
13 LeaveGroup                     0-5   4    zk
14 SyncGroup                      0-5   4    zk
15 DescribeGroups                 0-5   5    zk
16 ListGroups                     0-5   3    zk
17 SaslHandshake                  0-1   none zk
18 ApiVersions                    0-4   3    zk
19 CreateTopics                   0-7   5    zk
20 DeleteTopics                   0-6   4    zk
21 DeleteRecords                  0-2   2    zk
22 InitProducerId                 0-5   2    zk
23 OffsetForLeaderEpoch           0-4   4    zk
24 AddPartitionsToTxn             0-5   3    zk
25 AddOffsetsToTxn                0-4   3    zk
26 EndTxn                         0-4   3    zk
27 WriteTxnMarkers                0-1   1    zk
28 TxnOffsetCommit                0-4   3    zk
29 DescribeAcls                   0-3   2    zk
30 CreateAcls                     0-3   2    zk
31 DeleteAcls                     0-3   2    zk
32 DescribeConfigs                0-4   4    zk
33 AlterConfigs                   0-2   2    zk
34 AlterReplicaLogDirs            0-2   2    zk
35 DescribeLogDirs                0-4   2    zk
36 SaslAuthenticate               0-2   2    zk
37 CreatePartitions               0-3   2    zk
38 CreateDelegationToken          0-3   2    zk
39 RenewDelegationToken           0-2   2    zk
40 ExpireDelegationToken          0-2   2    zk
41 DescribeDelegationToken        0-3   2    zk
42 DeleteGroups                   0-2   2    zk
43 ElectLeaders                   0-2   2    zk
44 IncrementalAlterConfigs        0-1   1    zk
45 AlterPartitionReassignments    0     0    zk
46 ListPartitionReassignments     0     0    zk
47 OffsetDelete                   0     none zk
48 DescribeClientQuotas           0-1   1    zk
49 AlterClientQuotas              0-1   1    zk
50 DescribeUserScramCredentials   0     0    zk
51 AlterUserScramCredentials      0     0    zk
52 Vote                           0-1   0    raft
53 BeginQuorumEpoch               0-1   1    raft
54 EndQuorumEpoch                 0-1   1    raft
55 DescribeQuorum                 0-2   0    raft
56 AlterPartition                 0-3   0    zk
57 UpdateFeatures                 0-1   0    zk
58 Envelope                       0     0    zk
59 FetchSnapshot                  0-1   0    raft
60 DescribeCluster                0-1   0    zk
61 DescribeProducers              0     0    zk
62 BrokerRegistration             0-4   0    raft
63 BrokerHeartbeat                0-1   0    raft
64 UnregisterBroker               0     0    raft
65 DescribeTransactions           0     0    zk
66 ListTransactions               0-1   0    zk
67 AllocateProducerIds            0     0    zk
68 ConsumerGroupHeartbeat         0     0    zk
69 ConsumerGroupDescribe          0     0    zk
70 ControllerRegistration         0     0    raft
71 GetTelemetrySubscriptions      0     0    raft
72 PushTelemetry                  0     0    raft
73 AssignReplicasToDirs           0     0    raft
74 ListClientMetricsResources     0     0    raft
75 DescribeTopicPartitions        0     0    raft
76 ShareGroupHeartbeat            0     0    raft
77 ShareGroupDescribe             0     0    raft
78 ShareFetch                     0     0    raft
79 ShareAcknowledge               0     0    raft
80 AddRaftVoter                   0     0    raft
81 RemoveRaftVoter                0     0    raft
82 UpdateRaftVoter                0     0    raft
83 InitializeShareGroupState      0     0    raft
84 ReadShareGroupState            0     0    raft
85 WriteShareGroupState           0     0    raft
86 DeleteShareGroupState          0     0    raft
87 ReadShareGroupStateSummary     0     0    raft
"""


def _parse_row(row: str) -> ApiSpec:
    key, name, versions, flexible_from, mode = row.split()
    lowest, _, highest = versions.partition("-")
    first_flexible = None if flexible_from == "none" else int(flexible_from)
    return ApiSpec(ApiKey(int(key)), name, int(lowest), int(highest or lowest), first_flexible, mode == "zk")


API_SPECS: dict[int, ApiSpec] = {
    int(spec.key): spec for spec in map(_parse_row, filter(None, _TABLE.splitlines()))
}

_NEVER_FLEXIBLE = 1 << 15
_FIRST_FLEXIBLE: dict[int, int] = {
    key: _NEVER_FLEXIBLE if spec.flexible_from is None else spec.flexible_from
    for key, spec in API_SPECS.items()
}


def request_header_version(key: int, version: int) -> int:
    """Header version of a request: 2 when the body is flexible, else 1.

    ControlledShutdown v0 is the one request with header v0, which has no client id.
    """
    if version >= _FIRST_FLEXIBLE[key]:
        return 2
    return 0 if key == ApiKey.CONTROLLED_SHUTDOWN and version == 0 else 1


def response_header_version(key: int, version: int) -> int:
    """Header version of a response: 1 when the body is flexible, else 0.

    ApiVersions answers with header v0 always: a client reads it before it knows what the broker speaks.
    """
    if key == ApiKey.API_VERSIONS:
        return 0
    return 1 if version >= _FIRST_FLEXIBLE[key] else 0
