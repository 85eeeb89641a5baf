"""File access of the storage engine: `FileLayer`, the real one as `OS_FILES`, nothing else opens files.

Runs in: storage and helper processes.
"""
from storage.fs.layer import IOV_MAX, OS_FILES, DirectoryEntry, FileLayer, FileStatus, OsFileLayer

__all__ = ["IOV_MAX", "OS_FILES", "DirectoryEntry", "FileLayer", "FileStatus", "OsFileLayer"]
