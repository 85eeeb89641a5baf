"""`deploy/run` and `deploy/environment.sh`: what is made on first use, what is kept, what is started.

Most tests use a checkout of their own whose environment holds a stand-in `ottla` that prints its
arguments; one slow test makes a real environment (network).
"""
from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
STAND_IN = "#!/bin/sh\nprintf 'ottla'; printf ' %s' \"$@\"; echo\n"


def _bash(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, **environment}
    return subprocess.run(
        ["bash", "-c", code], capture_output=True, text=True, timeout=280, check=False, env=variables
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with the files that deploy/run needs, and an environment that counts as made."""
    root = tmp_path / "check out"
    (root / ".env-run" / "bin").mkdir(parents=True)
    shutil.copytree(REPOSITORY / "deploy", root / "deploy")
    for name in ("setup.cfg", "pyproject.toml"):
        shutil.copy(REPOSITORY / name, root / name)
    ottla = root / ".env-run" / "bin" / "ottla"
    ottla.write_text(STAND_IN)
    ottla.chmod(0o755)
    _make_stamp(root)
    return root


def _make_stamp(root: Path) -> None:
    stamp = _bash(f"""
        . '{root}/deploy/environment.sh'
        environment_stamp "$(find_python)" '{root}' '' >'{root}/.env-run/made-from'
    """)
    assert stamp.returncode == 0, stamp.stderr


def _run(checkout: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    quoted = " ".join(f"'{argument}'" for argument in arguments)
    return _bash(f"'{checkout}/deploy/run' {quoted}", **environment)


def test_without_arguments_it_starts_on_a_configuration_in_the_data_directory(checkout: Path) -> None:
    result = _run(checkout)
    configuration = checkout / "data" / "server.properties"
    assert result.stdout == f"ottla start {configuration}\n"
    lines = configuration.read_text().splitlines()
    assert f"log.dirs={checkout}/data/logs" in lines
    assert "listeners=PLAINTEXT://127.0.0.1:9092" in lines
    assert "offsets.topic.replication.factor=1" in lines, "on one node, groups do not start with the default of 3"
    assert len([line for line in lines if line.startswith("log.dirs")]) == 1
    assert "zookeeper.connect=" not in configuration.read_text()


def test_greeting_says_what_runs_where_and_what_to_try(checkout: Path) -> None:
    greeting = _run(checkout).stderr
    assert "127.0.0.1:9092" in greeting
    assert f"{checkout}/data/logs" in greeting
    assert "kcat -b 127.0.0.1:9092" in greeting
    assert len(greeting.splitlines()) < 10


def test_edited_configuration_is_kept(checkout: Path) -> None:
    _run(checkout)
    configuration = checkout / "data" / "server.properties"
    configuration.write_text("listeners=PLAINTEXT://127.0.0.1:1234\nlog.dirs=/edited\n")
    assert "127.0.0.1:1234" in _run(checkout).stderr
    assert "log.dirs=/edited" in configuration.read_text()


def test_data_directory_of_the_environment_is_used(checkout: Path, tmp_path: Path) -> None:
    result = _run(checkout, OTTLA_DATA=str(tmp_path / "elsewhere"))
    assert result.stdout == f"ottla start {tmp_path}/elsewhere/server.properties\n"
    assert not (checkout / "data").exists()


def test_own_configuration_and_overrides_are_passed_on(checkout: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.properties"
    own.write_text("listeners=PLAINTEXT://10.0.0.1:9999\nlog.dirs=/own\n")
    result = _run(checkout, str(own), "--override", "listeners=PLAINTEXT://127.0.0.1:7777")
    assert result.stdout == f"ottla start {own} --override listeners=PLAINTEXT://127.0.0.1:7777\n"
    assert "127.0.0.1:7777" in result.stderr
    assert not (checkout / "data").exists()


def test_overrides_alone_go_with_the_default_configuration(checkout: Path) -> None:
    result = _run(checkout, "--override", "num.partitions=7")
    assert result.stdout == f"ottla start {checkout}/data/server.properties --override num.partitions=7\n"


def test_missing_configuration_is_named(checkout: Path) -> None:
    result = _run(checkout, "/no/such.properties")
    assert result.returncode == 1
    assert "/no/such.properties" in result.stderr


def test_python_that_is_too_old_is_refused(checkout: Path, tmp_path: Path) -> None:
    for name in ("python3", "python3.11", "python3.12", "python3.13"):
        (tmp_path / name).write_text("#!/bin/sh\nexit 1\n")
        (tmp_path / name).chmod(0o755)
    result = _run(checkout, PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert result.returncode == 1
    assert "Python 3.11 or newer is needed" in result.stderr


def test_environment_is_made_anew_when_setup_cfg_changes(checkout: Path) -> None:
    with (checkout / "setup.cfg").open("a") as setup:
        setup.write("\n")
    rebuilt = _bash(f"""
        . '{checkout}/deploy/environment.sh'
        build_environment() {{ mkdir -p "$3"; echo "building $3 $4"; }}
        make_environment '{checkout}' .env-run ''
        make_environment '{checkout}' .env-run ''
    """)
    directory = f"{checkout}/.env-run"
    assert rebuilt.stdout.splitlines() == [f"building {directory} ", directory, directory]


def test_failed_environment_is_not_taken_for_made(checkout: Path) -> None:
    (checkout / ".env-run" / "made-from").unlink()
    failed = _bash(f"""
        set -euo pipefail
        . '{checkout}/deploy/environment.sh'
        build_environment() {{ false; }}
        environment=$(make_environment '{checkout}' .env-run '')
        echo "went on with $environment"
    """)
    assert (failed.returncode, failed.stdout) == (1, "")
    assert not (checkout / ".env-run" / "made-from").exists()


@pytest.mark.slow
def test_real_environment_checks_the_sample_configuration(tmp_path: Path) -> None:
    ignore = shutil.ignore_patterns(".git", ".venv", ".env-*", "data", "*.egg-info", "__pycache__", ".*_cache")
    shutil.copytree(REPOSITORY, tmp_path / "clone", ignore=ignore)
    result = _run(tmp_path / "clone", "--check")
    assert (result.returncode, result.stdout) == (0, "ok\n"), result.stderr
