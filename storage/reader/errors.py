"""What a look-up raises besides OSError and `storage.errors`.

Runs in: front end, storage.
"""
from __future__ import annotations

from collections.abc import Callable

from storage.errors import StorageError


class SegmentsChangedError(StorageError):
    """Storage is changing, or has changed, the files under the names: look up again after a refresh.

    Not a failure. The caller keeps serving from the descriptors it holds and retries with the next version.
    """


class ColdReadError(StorageError):
    """The bytes that a look-up needs are not in the page cache: reading them here would wait for the disk.

    `fetch` reads them and blocks: call it in the directory's worker pool. Then call `release` and repeat the
    look-up, both on the loop. The file stays open between.
    """

    def __init__(self, path: str, position: int, size_bytes: int, fetch: Callable[[], None],
                 release: Callable[[], None]) -> None:
        super().__init__(f"{path}: bytes {position} to {position + size_bytes} are not in the page cache")
        self.path = path
        self.position = position
        self.size_bytes = size_bytes
        self.fetch = fetch
        self.release = release
