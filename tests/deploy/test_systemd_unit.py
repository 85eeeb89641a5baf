"""The unit file: accepted by systemd, and with the settings that the process model depends on."""
from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

UNIT = Path(__file__).resolve().parents[2] / "deploy" / "systemd" / "ottla.service"


def _settings() -> dict[str, str]:
    lines = (line for line in UNIT.read_text().splitlines() if "=" in line and not line.startswith("#"))
    return dict(line.split("=", 1) for line in lines)


def test_one_dead_process_does_not_stop_the_unit() -> None:
    assert _settings()["OOMPolicy"] == "continue"
    assert _settings()["KillMode"] == "mixed"


def test_readiness_comes_from_the_supervisor() -> None:
    assert _settings()["Type"] == "notify"
    assert _settings()["NotifyAccess"] == "main"


def test_hardening_leaves_what_shared_memory_and_kafkas_default_directory_need() -> None:
    forbidden = {"PrivateTmp", "MemoryDenyWriteExecute", "SystemCallFilter", "ProtectHome", "PrivateIPC"}
    assert not forbidden & set(_settings())
    assert _settings()["ProtectSystem"] == "full"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze on this machine")
def test_systemd_accepts_it(tmp_path: Path) -> None:
    # The installed paths and the user need not exist here.
    text = UNIT.read_text().replace("/opt/ottla/bin/ottla", "/bin/true")
    unit = tmp_path / "ottla.service"
    unit.write_text("\n".join(line for line in text.splitlines() if not line.startswith(("User=", "Group="))))
    result = subprocess.run(
        ["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")
