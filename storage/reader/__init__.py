"""Read-only look-ups in partition directories: segment list, indexes, batch headers, descriptors, page cache.

Runs in: front end; storage may use it. See ARCHITECTURE.md beside this file.
"""
from storage.reader.errors import ColdReadError, SegmentsChangedError
from storage.reader.file_pool import FilePool, OpenFile
from storage.reader.page_cache import PageCacheProbe, Residency
from storage.reader.partition_reader import Location, MaxTimestamp, PartitionReader
from storage.reader.segment_reader import AbortedTransaction

__all__ = ["AbortedTransaction", "ColdReadError", "FilePool", "Location", "MaxTimestamp", "OpenFile",
           "PageCacheProbe", "PartitionReader", "Residency", "SegmentsChangedError"]
