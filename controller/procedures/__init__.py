"""What the active controller does on each event: the order of reads, decisions and sending (PURE).

Procedures are coroutines over a `Runtime`; they import no event loop and do no I/O of their own, so a test
runs them over a tree in memory, step by step.
"""
