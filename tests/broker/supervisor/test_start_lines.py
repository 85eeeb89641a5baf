"""What the operator reads, and the shape of log lines."""
from __future__ import annotations

import re
import subprocess
import sys

from broker.supervisor.events import CONTROLLER, FRONT_END, storage
from broker.supervisor.start_lines import start_lines


def test_the_lines_name_listeners_directories_and_pids() -> None:
    pids = {CONTROLLER: 11, FRONT_END: 12, storage(0): 13}
    lines = start_lines(3, "abc", ["PLAINTEXT://h:9092", "SSL://h:9093"], ["/a", "/b"], pids)
    assert lines == [
        "Ottla is ready: broker 3 of cluster abc",
        "  listening on PLAINTEXT://h:9092, SSL://h:9093",
        "  front end pid 12, controller pid 11",
        "  /a: storage pid 13",
        "  /b: storage not running",
    ]


def test_a_log_line_has_kafkas_shape() -> None:
    program = ("import logging; from broker.supervisor.log_lines import configure; configure('front end');"
               "logging.getLogger('x').warning('careful %d', 1)")
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert re.fullmatch(r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}\] WARN \[front end\] careful 1 \(x\)\n", out)
