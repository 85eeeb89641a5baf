"""The controller: the node's session with the metadata store, and the cluster's state machines.

Runs in: the controller process. See ARCHITECTURE.md.
"""
