"""Which run of a spec a run in the JSON is: a digest of everything that decides it."""

import hashlib
import json
from typing import Any

__all__ = ["digest_of"]


def digest_of(*parts: Any) -> str:
    """Twelve hexadecimal digits of plain values, whatever the order of their keys."""
    text = json.dumps(list(parts), sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
