"""Kafka's wire protocol: keys, codes, messages, codec, frames, and hand-tuned Produce and Fetch.

PURE: no sockets, clocks, randomness or event loop; bytes in, values out. Start with ARCHITECTURE.md.
Nothing is imported here, so that a process pays only for the modules that it names.
"""
