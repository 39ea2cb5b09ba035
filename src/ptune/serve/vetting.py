"""A bundle's files become a `Bundle` only after all that can be checked beforehand was checked; nothing in them is executed.

In: a bundle's folder. Out: `Vetted`: its content's hash and its card, and from `bundle_of_files` the bundle itself. Sizes come
first, then the header of each tensor file (types, shapes and declared sizes against the file's), and only then are tensors
read, and refused unless all numbers are finite. Files are read once: what was checked is what is loaded.
"""

import hashlib
import json
import math
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ptune.backbone import Backbone
from ptune.bundle import CARD, Bundle, read_bundle
from ptune.errors import BundleError
from ptune.serve.folder import Signature, signature_of
from ptune.template import Template

__all__ = ["Changing", "Vetted", "read_files", "vet"]

_CARD_BYTES = 1_000_000
_HEADER_BYTES = 1_000_000
_ITEM_SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "BOOL": 1}
_MOST_DIMENSIONS = 6
_MOST_LEARNED_TOKENS = 4096
_MOST_LABELS = 10_000
_SUFFIX = ".safetensors"

Files = Mapping[str, bytes]


class Changing(Exception):
    """The bundle is being written, or cannot be read now (with the reason); look again later."""


@dataclass(frozen=True)
class Vetted:
    """A bundle that may be put on the backbone.

    Args:
        digest: SHA-256 over its files: the key of everything that is kept for it.
        card: what `bundle.json` says.
        bundle: the whole.
    """

    digest: str
    card: Mapping[str, Any]
    bundle: Bundle


def read_files(path: Path, signature: Signature, limit: int) -> dict[str, bytes]:
    """A bundle's files, read once and as they were when `signature` was taken.

    Raises:
        Changing: they are others by now.
        BundleError: larger than the limit.
    """
    wanted = {name: size for name, _, _, size, _ in signature if name == CARD or name.endswith(_SUFFIX)}
    if CARD not in wanted:
        raise BundleError("bundle.json is no plain file", where=CARD)
    if wanted[CARD] > _CARD_BYTES:
        raise BundleError(f"bundle.json has {wanted[CARD]:,} bytes, more than {_CARD_BYTES:,}", where=CARD)
    total = sum(wanted.values())
    if total > limit:
        raise BundleError(f"the bundle has {total:,} bytes, this server takes {limit:,}", fix="raise --max-bundle-bytes")
    try:
        files = {name: _read(path / name, size) for name, size in sorted(wanted.items())}
        unchanged = signature_of(path) == signature
    except OSError as error:
        raise Changing((error.strerror or "").lower()) from None
    if not unchanged:
        raise Changing
    return files


def vet(files: Files, backbone: Backbone) -> Vetted:
    """Checks a bundle for this backbone.

    Args:
        files: its content.
        backbone: the frozen model that the server runs.

    Raises:
        BundleError: it is damaged, made for another backbone, or declares what cannot be.
    """
    digest = hashlib.sha256()
    for name, content in sorted(files.items()):
        digest.update(f"{name} {len(content)}\n".encode() + content)
    for name, content in files.items():
        if name.endswith(_SUFFIX):
            _check_header(name, content)
    try:
        _check_card(files[CARD], backbone)
        bundle = _bundle_of(files)
    except BundleError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise BundleError(f"bundle.json is damaged ({type(error).__name__})", where=CARD, fix="save the task again") from None
    _check_tensors(bundle, backbone)
    return Vetted(digest.hexdigest(), bundle.card, bundle)


def _read(path: Path, size: int) -> bytes:
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(path, flags), "rb") as file:
        content = file.read(size + 1)
    if len(content) != size:
        raise Changing
    return content


def _check_card(content: bytes, backbone: Backbone) -> None:
    """The backbone and the sizes that the card declares, before anything is made of them."""
    card = json.loads(content.decode("utf-8"))
    kept = card["backbone"]
    if kept["fingerprint"] != backbone.fingerprint:
        name, mark = str(kept["name"])[:100], str(kept["fingerprint"])[:12]
        here = f"this server runs {backbone.spec.name} ({backbone.fingerprint[:12]})"
        raise BundleError(f"it was made for {name} ({mark}), {here}", where="backbone", fix="serve it beside that one")
    task = card["task"]
    if len(task.get("labels") or ()) > _MOST_LABELS:
        raise BundleError(f"more than {_MOST_LABELS:,} labels", where=CARD)
    num_soft = sum(node.count or 0 for _, node in Template.parse(task["template"]).soft_nodes)
    most = min(_MOST_LEARNED_TOKENS, backbone.spec.max_positions or _MOST_LEARNED_TOKENS)
    if num_soft > most:
        raise BundleError(f"the template asks for {num_soft:,} learned tokens, more than {most:,}", where="template")


def _check_header(name: str, content: bytes) -> None:
    """Declared types, shapes and places of tensors against the file's real size.

    Raises:
        BundleError: at the first that does not agree.
    """

    def damaged(what: str) -> BundleError:
        return BundleError(f"{name} is damaged: {what}", where=name, fix="save the task again")

    if len(content) < 8:
        raise damaged("it has no header")
    size = int.from_bytes(content[:8], "little")
    if size > min(_HEADER_BYTES, len(content) - 8):
        raise damaged(f"its header claims {size:,} bytes")
    try:
        header = json.loads(content[8 : 8 + size])
        tensors = {key: value for key, value in header.items() if key != "__metadata__"}
        spans = sorted((*map(_whole, one["data_offsets"]), key) for key, one in tensors.items())
        declared = {key: _num_bytes(one) for key, one in tensors.items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise damaged("its header cannot be read") from None
    at = 0
    for first, last, key in spans:
        if first != at or last - first != declared[key]:
            raise damaged(f"the tensor {key[:60]!r} declares {declared[key]:,} bytes and has {last - first:,}")
        at = last
    if at != len(content) - 8 - size:
        raise damaged(f"its tensors declare {at:,} bytes and it holds {len(content) - 8 - size:,}")


def _num_bytes(tensor: Mapping[str, Any]) -> int:
    shape = [_whole(length) for length in tensor["shape"]]
    if len(shape) > _MOST_DIMENSIONS:
        raise ValueError("too many dimensions")
    return math.prod(shape) * _ITEM_SIZES[tensor["dtype"]]


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError("not a length")
    return value


def _bundle_of(files: Files) -> Bundle:
    """Through a folder of its own, so that the door of `bundle` reads the very bytes that were checked."""
    with tempfile.TemporaryDirectory(prefix="ptune-serve-") as folder:
        for name, content in files.items():
            (Path(folder) / name).write_bytes(content)
        try:
            return read_bundle(folder)
        except BundleError as error:
            raise BundleError(error.what, where=Path(error.where).name, fix=error.fix) from None


def _check_tensors(bundle: Bundle, backbone: Backbone) -> None:
    """Learned rows as wide as the model's embeddings, and nothing but finite numbers."""
    rows = bundle.tensors.get("rows")
    if rows is not None and (rows.dim() not in (2, 3) or rows.shape[-1] != backbone.spec.embedding_size):
        shape = " x ".join(map(str, rows.shape))
        raise BundleError(f"its learned rows are {shape}, the model's embeddings {backbone.spec.embedding_size} wide")
    for name, tensor in (*bundle.tensors.items(), *bundle.tuned.items()):
        if not bool(tensor.isfinite().all()):
            raise BundleError(f"the tensor {name!r} holds numbers that are not finite", fix="train the task again")
