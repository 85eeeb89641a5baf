"""What clients may send to do harm: each ends in an error of their own."""

from __future__ import annotations

from tests.scenarios.transcript import Script


def test_a_client_id_that_leaves_no_room_for_a_member_id() -> None:
    script = Script()
    for client, flags in (("c" * 32_767, "old"), ("d" * 32_766, "")):
        (outcome,) = script.run(f"join g {client} {flags}")
        assert outcome == f"{client}: INVALID_REQUEST id="
    assert script.run("join g anna instance=" + "i" * 32_767) == ["anna: INVALID_REQUEST id="]
    assert script.run("describe g") == ["Empty gen=0 leader=None members="]


def test_ten_thousand_groups_of_nobody_go_with_the_next_round() -> None:
    script = Script()
    for number in range(10_000):
        script.run(f"join g-{number} anna old protocols=")
    assert len(list(script.coordinator.groups())) == 10_000
    script.run("expire")
    assert not list(script.coordinator.groups())
    assert len(script.coordinator.timers) == 0


def test_ids_that_are_asked_for_and_never_used_are_forgotten() -> None:
    script = Script()
    for number in range(1000):
        script.run(f"join g client-{number}")
    script.run("pass 10000")
    (group,) = script.coordinator.groups()
    assert not group.pending_members and len(script.coordinator.timers) == 0


