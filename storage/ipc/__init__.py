"""Shared memory and messages between the processes of one node; see ARCHITECTURE.md of this package."""
