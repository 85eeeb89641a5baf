"""What the servers' transaction log says of who led and who wrote.

- A change that only a controller makes is made by the session that was elected last.
- Each election sets the epoch after the one before.
- After a leader was lost, somebody is elected within the session's time-out plus a second.

Runs in: the test process. Pure functions over transactions.
"""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from controller import znodes
from tests.zookeeper_rounds.transaction_log import Change, Transaction

_EVERY_NODES = (znodes.CONTROLLER, znodes.CONTROLLER_EPOCH, *znodes.PERSISTENT_PATHS)
_EVERY_NODES_BELOW = (znodes.BROKER_IDS, znodes.CONFIG_CHANGES, "/cluster", "/zookeeper")


class Election(NamedTuple):
    time_ms: int
    session: int
    broker_id: int
    epoch: int


class Loss(NamedTuple):
    """The node that led was struck, for longer than its session lasts. deadline_ms: for the next election."""

    time_ms: int
    broker_id: int
    deadline_ms: int
    why: str


def elections(transactions: Sequence[Transaction]) -> Iterator[Election]:
    for transaction in transactions:
        by_path = {change.path: change for change in transaction.changes if change.verb in ("create", "set")}
        office, epoch = by_path.get(znodes.CONTROLLER), by_path.get(znodes.CONTROLLER_EPOCH)
        if office is not None and epoch is not None:
            broker_id = znodes.decode_controller(office.data).broker_id
            yield Election(transaction.time_ms, transaction.session, broker_id,
                           znodes.decode_controller_epoch(epoch.data))


def is_the_controllers(change: Change) -> bool:
    """Nobody else among the nodes makes it."""
    return change.verb in ("create", "set", "delete") and change.path not in _EVERY_NODES \
        and not any(change.path == path or change.path.startswith(f"{path}/") for path in _EVERY_NODES_BELOW) \
        and not any(path.startswith(f"{change.path}/") for path in znodes.PERSISTENT_PATHS)


def node_sessions(transactions: Sequence[Transaction]) -> set[int]:
    """Those that ever registered a broker or were elected: the others are the tests' own."""
    return {transaction.session for transaction in transactions for change in transaction.changes
            if change.verb == "create" and (change.path == znodes.CONTROLLER
                                            or change.path.startswith(f"{znodes.BROKER_IDS}/"))}


def controller_writes(transactions: Sequence[Transaction]) -> int:
    """Transactions of nodes' sessions that only a controller makes: what there was to be judged."""
    nodes = node_sessions(transactions)
    return sum(transaction.session in nodes and any(map(is_the_controllers, transaction.changes))
               for transaction in transactions)


def violations(transactions: Sequence[Transaction]) -> list[str]:
    nodes = node_sessions(transactions)
    found = []
    last: Election | None = None
    for transaction in transactions:
        for election in elections([transaction]):
            if election.epoch != (0 if last is None else last.epoch) + 1:
                found.append(f"zxid {transaction.zxid:#x}: epoch {election.epoch} after {last}")
            last = election
        changes = [change for change in transaction.changes if is_the_controllers(change)]
        if changes and transaction.session in nodes and (last is None or transaction.session != last.session):
            found.append(f"zxid {transaction.zxid:#x}: session {transaction.session:#x} did {changes[0].verb} "
                         f"{changes[0].path}; elected last was {last}")
    return found


def succession_ms(transactions: Sequence[Transaction], losses: Sequence[Loss]) -> list[int]:
    """From each loss to the election after it."""
    elected_ms = [election.time_ms for election in elections(transactions)]
    return [min(after) - loss.time_ms for loss in losses
            if (after := [time_ms for time_ms in elected_ms if time_ms >= loss.time_ms])]


def late_successors(transactions: Sequence[Transaction], losses: Sequence[Loss]) -> list[str]:
    found = []
    for loss in losses:
        after = next((election for election in elections(transactions) if election.time_ms >= loss.time_ms), None)
        if after is None or after.time_ms > loss.deadline_ms:
            late = "nobody" if after is None else f"node {after.broker_id} {after.time_ms - loss.time_ms} ms later"
            found.append(f"node {loss.broker_id} was lost ({loss.why}) with {loss.deadline_ms - loss.time_ms} ms "
                         f"for a successor; elected was {late}")
    return found
