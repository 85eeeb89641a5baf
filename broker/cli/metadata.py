"""`ottla metadata copy`: moves a node that is stopped between its embedded metadata and a ZooKeeper.

What is copied and when it is refused: controller/metadata_copy.py.

Runs in: the process that the operator starts.
"""
from __future__ import annotations

import argparse
import logging
import sys
from typing import Any

_DESCRIPTION = """Copy a node's metadata (topics, configuration, epochs, ids) from its embedded store into the
ZooKeeper that zookeeper.connect names, or back. The node must be stopped. What is in the target already is never
overwritten."""


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("metadata", help="copy a node's metadata into a ZooKeeper, or back",
                                   description="Work on a node's metadata.")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    copy = actions.add_parser("copy", help="copy them into a ZooKeeper, or back", description=_DESCRIPTION)
    direction = copy.add_mutually_exclusive_group(required=True)
    direction.add_argument("--to-zookeeper", action="store_true", help="from the file ottla.metadata.path")
    direction.add_argument("--from-zookeeper", action="store_true", help="into the file ottla.metadata.path")
    copy.add_argument("properties", metavar="server.properties",
                      help="the node's configuration, with zookeeper.connect set")
    copy.add_argument("--override", action="append", default=[], metavar="KEY=VALUE",
                      help="a setting stronger than the file's; may be given several times")
    copy.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from broker.cli.start import describe_errors
    from broker.config import ConfigErrors, load_config
    from broker.supervisor.composition import copy_metadata

    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="ottla: %(message)s")
    try:
        config = load_config(arguments.properties, arguments.override)
    except ConfigErrors as errors:
        print(describe_errors(arguments.properties, errors), file=sys.stderr)
        return 1
    done, text = copy_metadata(config, to_zookeeper=arguments.to_zookeeper)
    print(text if done else f"ottla: the metadata are not copied: {text}", file=sys.stdout if done else sys.stderr)
    return 0 if done else 1
