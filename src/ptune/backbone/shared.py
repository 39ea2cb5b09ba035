"""Texts that several tasks on one model read, read once: fits with other seeds or settings, judging, predicting.

In: a backbone. Out: within `sharing_contexts`, whatever reads texts on it finds the contexts that others have computed. They
are known by their token ids, so that a changed text or template never meets an old one. Only where keeping is exact.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from weakref import ref

from ptune.backbone.backbone import Backbone
from ptune.backbone.kept import KeptContexts, context_bytes
from ptune.errors import BackboneError

__all__ = ["SharedContexts", "sharing_contexts"]

MAX_BYTES = 2 << 30


class SharedContexts:
    """Contexts of texts that causal models read, kept for whoever asks next; those of one backbone at a time.

    Args:
        max_bytes: of all that is kept, with what rows elsewhere still hold of it; texts that would take more are computed each
            time.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self.max_bytes = max_bytes
        self._store: KeptContexts | None = None
        self._known: set[tuple[int, ...]] = set()
        self._let_go: list[tuple[ref[KeptContexts], int]] = []
        self._is_aside = False

    def of(self, backbone: Backbone, prefixes: Sequence[Sequence[int]]) -> KeptContexts | None:
        """A store with room for these texts, which are computed when they are asked for; None where they are not kept."""
        asked = {tuple(ids) for ids in prefixes if len(ids)}
        if self._is_aside or _num_bytes(backbone, asked) > self.max_bytes:
            return None
        is_other = self._store is None or self._store.form != (backbone.fingerprint, backbone.dtype)
        if is_other or _num_bytes(backbone, asked | self._known) + self._held_elsewhere() > self.max_bytes:
            self._drop(backbone)
            if _num_bytes(backbone, asked) + self._held_elsewhere() > self.max_bytes:
                return None
            self._store = KeptContexts(backbone, [])
        self._known |= asked
        return self._store

    def _drop(self, backbone: Backbone) -> None:
        """What was kept so far goes, unless rows hold it still."""
        if self._store is not None:
            self._let_go.append((ref(self._store), _num_bytes(backbone, self._known)))
        self._store, self._known = None, set()

    def _held_elsewhere(self) -> int:
        """Bytes of what was let go and is held all the same."""
        self._let_go = [one for one in self._let_go if one[0]() is not None]
        return sum(size for _, size in self._let_go)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Nothing is kept, and nothing that was kept is used: so a prediction takes as long as it does by itself."""
        self._is_aside = True
        try:
            yield
        finally:
            self._is_aside = False


def _num_bytes(backbone: Backbone, prefixes: set[tuple[int, ...]]) -> int:
    return context_bytes(backbone, sum(map(len, prefixes)))


@contextmanager
def sharing_contexts(backbone: Backbone, *, memory: int = MAX_BYTES) -> Iterator[None]:
    """All tasks on this model read each text once while this lasts: `with ptune.sharing_contexts(backbone): ...`.

    For several fits on the same rows, as a search over settings or seeds makes them; texts that are read once only take room.
    Results are those of each alone. The model's weights must not be changed by hand meanwhile.

    Args:
        backbone: of all the tasks, loaded once and given to each as `backbone=`.
        memory: bytes for what is kept. Texts that would take more are read as they are without sharing; where new texts have no
            room, those that no rows hold go. `keep_context` and `context_memory` of a recipe count for its training rows, which
            are shared where they would have been kept in memory.

    Raises:
        BackboneError: the contexts of this model are shared already.
    """
    if backbone.shared is not None:
        raise BackboneError("this model's contexts are shared already", where="sharing_contexts", fix="one with is enough")
    backbone.shared = SharedContexts(memory)
    try:
        yield
    finally:
        backbone.shared = None
