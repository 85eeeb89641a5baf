"""The log itself: segments, indexes, producer state, leader epochs, recovery, and one log directory of them.

Runs in: storage (one process per log directory, one writer thread). See ARCHITECTURE.md here.
"""
