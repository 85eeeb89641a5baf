"""Program of the controller process in tests: `python -m tests.controller.run_controller <json>`.

The JSON holds `properties` (of server.properties), `session` (password in hex) and three inherited
descriptors: `control`, `to_broker`, `from_broker`.
"""
from __future__ import annotations

import json
import logging
import socket
import sys

from broker.config import build_config
from controller.main import controller_main
from storage.ipc.contexts import ControllerContext
from storage.ipc.control import ControlSocket


def main() -> int:
    given = json.loads(sys.argv[1])
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    session = given["session"]
    if session:
        session["password"] = bytes.fromhex(session["password"])
    return controller_main(ControllerContext(
        build_config(given["properties"]), ControlSocket(socket.socket(fileno=given["control"])),
        socket.socket(fileno=given["to_broker"]), socket.socket(fileno=given["from_broker"]), session))


if __name__ == "__main__":
    sys.exit(main())
