"""What of a bundle is published: the bundle itself with a model card that names its new place, nothing else of its folder."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ptune.bundle.bundle import read_bundle
from ptune.bundle.hub import open_repository, upload_folder
from ptune.bundle.model_card import MODEL_CARD, model_card

__all__ = ["num_shown_texts", "push_bundle"]


def push_bundle(
    folder: str | Path, name: str, *, private: bool = False, token: str | None = None, with_examples: bool = True
) -> str:
    """Uploads a bundle to a hub.

    Args:
        folder: the bundle.
        name: the repository's id.
        private, token: see `open_repository`.
        with_examples: whether the training texts that the bundle shows go along.

    Returns:
        The repository's address.

    Raises:
        BundleError: no bundle there, or the hub refuses.
    """
    bundle = read_bundle(folder)
    if not with_examples:
        bundle = replace(bundle, card=_without_examples(bundle.card))
    place = open_repository(name, private=private, token=token)
    with TemporaryDirectory(prefix="ptune-push-") as scratch:
        fresh = Path(scratch, "bundle")
        bundle.write(fresh)
        (fresh / MODEL_CARD).write_text(model_card(bundle.card, source=place), encoding="utf-8")
        return upload_folder(fresh, place, token=token)


def num_shown_texts(card: Mapping[str, Any]) -> int:
    """How many training texts a bundle's card shows."""
    return sum(map(len, ((card.get("data") or {}).get("examples") or {}).values()))


def _without_examples(card: Mapping[str, Any]) -> dict[str, Any]:
    data = {key: value for key, value in (card.get("data") or {}).items() if key != "examples"}
    return {**card, "data": data} if data else {key: value for key, value in card.items() if key != "data"}
