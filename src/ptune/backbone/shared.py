"""Texts that several tasks on one model read, read once: fits with other seeds or settings, judging, predicting.

In: a backbone. Out: within `sharing_contexts`, whatever reads texts on it finds the contexts that others have computed. They
are known by their token ids, so that a changed text or template never meets an old one. Only where keeping is exact.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ptune.backbone.backbone import Backbone
from ptune.backbone.kept import KeptContexts, context_bytes
from ptune.errors import BackboneError

__all__ = ["SharedContexts", "sharing_contexts"]


class SharedContexts:
    """Contexts of texts that causal models read, kept for whoever asks next; those of one backbone at a time.

    Args:
        max_bytes: of all that is kept; texts that would take more by themselves are computed each time.
    """

    def __init__(self, max_bytes: int = 1 << 30) -> None:
        self.max_bytes = max_bytes
        self._store: KeptContexts | None = None
        self._known: set[tuple[int, ...]] = set()
        self._is_aside = False

    def of(self, backbone: Backbone, prefixes: Sequence[Sequence[int]]) -> KeptContexts | None:
        """A store with room for these texts, which are computed when they are asked for; None where they are not kept."""
        asked = {tuple(ids) for ids in prefixes if len(ids)}
        if self._is_aside or self._num_bytes(backbone, asked) > self.max_bytes:
            return None
        is_other = self._store is None or self._store.fingerprint != backbone.fingerprint
        if is_other or self._num_bytes(backbone, asked | self._known) > self.max_bytes:
            self._store, self._known = KeptContexts(backbone, []), set()  # what was kept so far goes
        self._known |= asked
        return self._store

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Nothing is kept, and nothing that was kept is used: so a prediction takes as long as it does by itself."""
        self._is_aside = True
        try:
            yield
        finally:
            self._is_aside = False

    @staticmethod
    def _num_bytes(backbone: Backbone, prefixes: set[tuple[int, ...]]) -> int:
        return context_bytes(backbone, sum(map(len, prefixes)))


@contextmanager
def sharing_contexts(backbone: Backbone, *, memory: int = 2 << 30) -> Iterator[None]:
    """All tasks on this model read each text once while this lasts: `with ptune.sharing_contexts(backbone): ...`.

    For several fits on the same rows, as a search over settings or seeds makes them. Results are those of each alone.

    Args:
        backbone: of all the tasks, loaded once and given to each as `backbone=`.
        memory: bytes for what is kept. Texts that would take more are read anew; where new texts have no room, all others go.

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
