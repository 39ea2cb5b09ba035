"""Prefix encoders that other code has trained: the original P-Tuning v2 and ChatGLM's `ptuning` scripts.

In: their `pytorch_model.bin` (tensors only; a pickle that wants more is not opened) or a safetensors file, or the folder around
it. Out: `PrefixCheckpoint`: one row of keys and values per virtual token, in PEFT's order, and a head if there is one. Source:
`prefix_encoder.embedding.weight` [P, 2 * N * D], viewed as (P, 2N, H, D / H); with projection, [P, D] through
`prefix_encoder.trans` (Linear, tanh, Linear). ChatGLM's text starts at position 0, the others' behind the prefix.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ptune.bundle.peft_format import read_tensors
from ptune.errors import BundleError

__all__ = ["CHECKPOINT_FILES", "PrefixCheckpoint", "read_prefix_checkpoint"]

CHECKPOINT_FILES = ("pytorch_model.bin", "model.safetensors")
_ENCODER = "prefix_encoder."
_EMBEDDING = f"{_ENCODER}embedding.weight"
_TRANS = ("trans.0.weight", "trans.0.bias", "trans.2.weight", "trans.2.bias")
_HEADS = ("classifier.", "qa_outputs.", "score.")


@dataclass(frozen=True)
class PrefixCheckpoint:
    """What a prefix encoder has learned.

    Args:
        flat: keys and values of each virtual token, projected where the encoder projects.
        head: weights of `classifier` or `qa_outputs`, named as in the file.
        pooler: `dense.weight` and `dense.bias` of the backbone's pooler, which the head reads, where the file has them.
        origin: whose file it is.
    """

    flat: Float[Tensor, "P W"]
    head: Mapping[str, Tensor]
    pooler: Mapping[str, Tensor]
    origin: Literal["p-tuning-v2", "chatglm"]


def read_prefix_checkpoint(source: str | Path) -> PrefixCheckpoint:
    """Reads a checkpoint.

    Args:
        source: the file, or the folder that holds it.

    Raises:
        BundleError: no such file, no prefix encoder in it, or one of a shape that does not fit together.
    """
    file = _file(Path(source).expanduser())
    tensors = read_tensors(file)
    name = next((name for name in tensors if name.endswith(_EMBEDDING)), None)
    if name is None:
        if f"{_ENCODER}weight" in tensors:
            what = "this is a prompt of P-Tuning v2's `--prompt` runs, which pass embeddings with positions and norm twice"
            raise BundleError(what, where=str(file), fix="train a prompt with ptune instead")
        raise BundleError(f"there is no {_EMBEDDING} in the file", where=str(file))
    stem = name.removesuffix("embedding.weight")
    embedding, trans = tensors[name].float(), [tensors[stem + part].float() for part in _TRANS if stem + part in tensors]
    if trans:
        embedding = _projected(embedding, trans, str(file))
    head = {name: value for name, value in tensors.items() if name.startswith(_HEADS)}
    pooler = {name.split("pooler.")[1]: value for name, value in tensors.items() if ".pooler.dense." in name}
    return PrefixCheckpoint(embedding, head, pooler, "chatglm" if name.startswith("transformer.") else "p-tuning-v2")


def _file(path: Path) -> Path:
    if path.is_file():
        return path
    found = next((path / name for name in CHECKPOINT_FILES if (path / name).is_file()), None)
    if found is None:
        raise BundleError(f"there is neither {' nor '.join(CHECKPOINT_FILES)} in {path}", where=str(path))
    return found


def _projected(embedding: Tensor, trans: list[Tensor], where: str) -> Tensor:
    """Linear, tanh, Linear."""
    if len(trans) != len(_TRANS):
        raise BundleError("the prefix encoder's projection is incomplete", where=where, fix=f"it needs {', '.join(_TRANS)}")
    inner, inner_bias, outer, outer_bias = trans
    if embedding.shape[1] != inner.shape[1] or inner.shape[0] != outer.shape[1]:
        raise BundleError("the prefix encoder's layers do not fit together", where=where)
    hidden = torch.tanh(torch.nn.functional.linear(embedding, inner, inner_bias))
    return torch.nn.functional.linear(hidden, outer, outer_bias)
