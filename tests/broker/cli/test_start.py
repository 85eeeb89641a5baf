"""`ottla start`: checks, messages and exit codes. Starting itself is the supervisor's."""
from __future__ import annotations

import subprocess
import sys
import types
from pathlib import Path

import pytest

from broker.cli.main import main
from broker.config import KafkaConfig


@pytest.fixture
def properties(tmp_path: Path) -> str:
    path = tmp_path / "server.properties"
    path.write_text("listeners=PLAINTEXT://127.0.0.1:9092\nlog.dirs=/data/a\nnum.io.threads=2\n")
    return str(path)


def test_check_says_ok_and_warns(properties: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["start", "--check", properties]) == 0
    out, err = capsys.readouterr()
    assert out == "ok\n"
    assert err.startswith("ottla: warning: num.io.threads: no effect")


def test_faults_are_all_told_with_what_to_do(properties: str, capsys: pytest.CaptureFixture[str]) -> None:
    overrides = ["--override", "num.partitions=0", "--override", "process.roles=broker"]
    assert main(["start", properties, *overrides]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        f"ottla: cannot start with {properties}: 2 errors\n"
        "\n"
        "num.partitions = 0\n"
        "  allowed   : a whole number, at least 1\n"
        "  what to do: correct it, or leave the key out for the default, 1\n"
        "\n"
        "process.roles = broker\n"
        "  not served: Ottla takes the place of Kafka in ZooKeeper mode and has neither KRaft nor what only"
        " KRaft offers\n"
        "  what to do: remove the line\n"
    )


def test_passwords_are_not_printed(properties: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["start", "--check", properties, "--override", "delegation.token.secret.key=hush"]) == 1
    err = capsys.readouterr().err
    assert "delegation.token.secret.key = [hidden]" in err
    assert "hush" not in err


def test_hostile_text_does_not_reach_the_terminal(
    properties: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["start", properties, "--override", "num.partitions=\x1b[2J\u202e" + "9" * 5000]) == 1
    err = capsys.readouterr().err
    assert "\\x1b[2J\\u202e999" in err
    assert len(err) < 600


def test_a_sound_configuration_goes_to_the_supervisor_and_its_code_comes_back(
    properties: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[KafkaConfig] = []

    def run(config: KafkaConfig) -> int:
        started.append(config)
        return 7

    supervisor = types.ModuleType("broker.supervisor")
    supervisor.run = run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "broker.supervisor", supervisor)
    assert main(["start", properties, "--override", "broker.id=4"]) == 7
    assert [config["broker.id"] for config in started] == [4]


def test_check_starts_nothing(properties: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "broker.supervisor", None)
    assert main(["start", "--check", properties]) == 0


def test_a_missing_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["start", "--check", str(tmp_path / "absent")]) == 1
    assert "No such file or directory" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["start"], ["begin"], ["start", "--chek", "x"]])
def test_wrong_usage_is_exit_code_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(arguments)
    assert raised.value.code == 2


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["--version"])
    assert raised.value.code == 0
    assert capsys.readouterr().out.startswith("ottla ")


def test_there_is_no_stack_trace_in_a_real_process(properties: str) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "broker.cli.main", "start", properties, "--override", "listeners=x"],
        capture_output=True, text=True, check=False,
    )
    assert result.returncode == 1
    assert "Traceback" not in result.stderr


def test_the_sample_configuration_is_sound(capsys: pytest.CaptureFixture[str]) -> None:
    sample = Path(__file__).parents[3] / "deploy" / "server.properties"
    assert main(["start", "--check", str(sample)]) == 0
    assert capsys.readouterr() == ("ok\n", "")
