"""Memory that was freed goes back to the system, so that a server's size says what it holds and not what it once held.

glibc keeps freed blocks of a heap; with batches of ever new sizes these come to a fifth of the process and look like a leak.
"""

import ctypes
from collections.abc import Callable

__all__ = ["give_back"]


def _trim() -> Callable[[int], int] | None:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # no glibc
        return None


_malloc_trim = _trim()


def give_back() -> bool:
    """Hands free memory back; False where the C library cannot. Takes some milliseconds."""
    if _malloc_trim is None:
        return False
    _malloc_trim(0)
    return True
