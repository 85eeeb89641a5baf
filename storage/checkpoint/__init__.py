"""Kafka's small text files of a log directory, byte for byte: offset and leader-epoch checkpoints,
meta.properties, partition.metadata and the clean-shutdown marker.

Runs in: storage (all), supervisor (meta.properties only). No state: every call reads or replaces one file.
"""
