"""How much memory a piece of work takes: a thread looks at the process while it runs.

Out: megabytes (10^6 bytes, as everywhere in a comparison) by which the process grew at its largest. What an earlier piece gave
back to the allocator may be used again unseen, so free heap is returned to the system first where that can be done (glibc).
"""

import ctypes
import gc
import sys
import threading
from types import TracebackType
from typing import Self

import psutil

__all__ = ["MemoryPeak"]

_SECONDS = 0.01


class MemoryPeak:
    """`with MemoryPeak() as peak: ...`, then `peak.mb`.

    Args:
        thorough: whether to collect garbage first, which takes a moment: worth it where models are copied.
    """

    def __init__(self, *, thorough: bool = True) -> None:
        self.mb = 0
        self._is_thorough = thorough
        self._process = psutil.Process()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        if self._is_thorough:
            gc.collect()
        _give_back()
        self._before = self._peak = self._process.memory_info().rss
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._is_over.set()
        self._thread.join()
        self._look()
        self.mb = max(0, self._peak - self._before) // 10**6

    def _watch(self) -> None:
        while not self._is_over.wait(_SECONDS):
            self._look()

    def _look(self) -> None:
        self._peak = max(self._peak, self._process.memory_info().rss)


def _give_back() -> None:
    """Free heap, to the system."""
    if sys.platform == "linux":
        try:
            ctypes.CDLL("libc.so.6").malloc_trim(0)
        except (OSError, AttributeError):  # another C library
            return
