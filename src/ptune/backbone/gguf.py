"""GGUF files: a quantised model in one file becomes a safetensors folder that loads in seconds.

In: a `.gguf` file (a causal model with its tokenizer). Out: a folder for `from_pretrained`, in fp32, because weights
that come out of 4-bit blocks do not fit bf16 without loss. The conversion takes the better part of a minute, so it
is done once per content: `converted` keeps it in the cache under the file's SHA-256.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptune.backbone.catalogue import cache_dir, check_disk, file_sha256, is_whole, whole_folder
from ptune.errors import BackboneError

if TYPE_CHECKING:
    import torch

__all__ = ["convert_gguf", "converted", "gguf_fingerprint"]

_TOKENIZER_MB = 50


def converted(gguf: Path) -> Path:
    """The folder of a user's GGUF file, converted on first use and kept in the cache.

    Args:
        gguf: the file; the same content under another name is the same model.

    Returns:
        A folder for `from_pretrained`.

    Raises:
        BackboneError: no such file, not GGUF, or an architecture that transformers cannot read.
    """
    fingerprint = gguf_fingerprint(gguf)
    folder = cache_dir() / "gguf" / fingerprint[:16]
    if not is_whole(folder, fingerprint):
        with whole_folder(folder, sha256=fingerprint, name=gguf.name) as fresh:
            convert_gguf(gguf, fresh)
    return folder


def gguf_fingerprint(gguf: Path) -> str:
    """The SHA-256 of a GGUF file.

    Raises:
        BackboneError: the file cannot be read or is not GGUF.
    """
    try:
        with gguf.open("rb") as file:
            magic = file.read(4)
        if magic != b"GGUF":
            raise BackboneError("this is not a GGUF file", where=str(gguf), fix="name a .gguf file or a model folder")
        return file_sha256(gguf)
    except OSError as error:
        raise BackboneError(f"cannot be read: {error.strerror}", where=str(gguf), fix="check the path") from error


def convert_gguf(gguf: Path, folder: Path, *, dtype: "torch.dtype | str" = "float32") -> None:
    """Writes the model and tokenizer of a GGUF file as safetensors and `tokenizer.json`.

    Args:
        gguf: the file.
        folder: where `config.json`, `model.safetensors` and the tokenizer go; it must exist.
        dtype: of the written weights; anything below float32 loses bits.

    Raises:
        BackboneError: transformers cannot read the file or its architecture, or the disk is too full.
    """
    with _quiet():
        try:
            model, tokenizer = _load(gguf, dtype)
        except Exception as error:  # a reader of foreign files fails in many ways; all mean that the file is unusable
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise BackboneError(
                f"this GGUF file cannot be loaded: {reason}", where=str(gguf), fix="use the model's safetensors folder"
            ) from error
        _unmark(model)
        check_disk(folder, model.get_memory_footprint() // 10**6 + _TOKENIZER_MB, f"the converted {gguf.name}")
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def _load(gguf: Path, dtype: "torch.dtype | str") -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    place: dict[str, Any] = {"gguf_file": gguf.name, "local_files_only": True}
    unpack = GgufConfig(dequantize=True)  # else an installed `kernels` package would keep the weights packed
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, dtype=dtype, quantization_config=unpack, **place)
    return model, AutoTokenizer.from_pretrained(gguf.parent, **place)


def _unmark(model: Any) -> None:
    """Takes off the marks of a quantised model, without which it saves as the plain model that it now is."""
    model.hf_quantizer = None
    model.is_quantized = False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config


@contextmanager
def _quiet() -> Iterator[None]:
    """Hides transformers' progress bars and remarks; its GGUF reader knows no switch but the stream itself."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
