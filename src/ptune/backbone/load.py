"""From whatever the user named as backbone to a `Backbone`: catalogue name, folder, GGUF file, hub id, or a loaded model.

In: a name or object, number type, device. Out: a frozen `Backbone`. The hub is asked only for names that are neither in the
catalogue nor on disk (`HF_ENDPOINT` and the other settings of huggingface_hub apply).
"""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import torch

from ptune.backbone.backbone import Backbone
from ptune.backbone.catalogue import catalogue, entry, local_folder
from ptune.errors import BackboneError, notice

__all__ = ["BackboneLike", "DType", "load_backbone", "save_backbone"]

DType = Literal["fp32", "bf16", "int8"]
BackboneLike = str | Path | Backbone | tuple[Any, Any]

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "int8": torch.float32}


def load_backbone(
    source: BackboneLike,
    *,
    dtype: DType = "fp32",
    device: str = "auto",
    text_start: str | None = None,
) -> Backbone:
    """Loads and freezes a model.

    Args:
        source: a name of `ptune models list`, a folder, a .gguf file, a hub id, a `Backbone`, or (model, tokenizer).
        dtype: number type of the weights; int8 is for predictions on a CPU.
        device: `auto` (cuda, mps, else cpu) or a torch device.
        text_start: the token plain text starts with; None takes the catalogue's or the tokenizer's.

    Raises:
        BackboneError: nothing of that name, an unreadable model, an unknown number type or device.
    """
    if isinstance(source, Backbone):
        return source
    if isinstance(source, tuple):
        model, tokenizer = source
        name = getattr(model.config, "_name_or_path", "") or type(model).__name__
        return Backbone(model, tokenizer, name=name, text_start=text_start)
    if dtype not in _DTYPES:
        raise BackboneError(f"{dtype!r} is no number type ptune loads", where="dtype", fix="use fp32, bf16 or int8")
    name = str(source)
    known = catalogue().get(name)
    folder = _folder(name)
    start = text_start if text_start is not None else (known.text_start or None if known else None)
    model, tokenizer = _from_pretrained(folder, name, _DTYPES[dtype])
    if name not in catalogue() and Path(name).expanduser().exists():
        name = str(Path(name).expanduser().resolve())  # a bundle must find it from any folder
    loaded = Backbone(model.to(_device(device)), tokenizer, name=name, text_start=start)
    if dtype != "int8":
        return loaded
    from ptune.backbone.quantised import quantise

    return quantise(loaded)


def save_backbone(backbone: Backbone, folder: str | Path) -> None:
    """Writes a model folder as transformers does, for the attention that it would choose itself.

    Args:
        backbone: with its weights as they are now.
        folder: made where it is not there.
    """
    model, own = backbone.model, backbone.model.config._attn_implementation
    if getattr(type(model), "_supports_sdpa", False):
        model.set_attn_implementation("sdpa")
    with _quiet():
        model.save_pretrained(folder)
        backbone.tokens.tokenizer.save_pretrained(folder)
    if model.config._attn_implementation != own:
        model.set_attn_implementation(own)


def _folder(name: str) -> str:
    """Where transformers should read a model from."""
    if name in catalogue():
        folder = local_folder(entry(name))
        if folder is None:
            from ptune.backbone.fetch import pull

            notice(f"{name} is not here yet: fetching it once (ptune models pull {name})")
            folder = pull(name, say=notice)
        return str(folder)
    path = Path(name).expanduser()
    if path.suffix == ".gguf":
        if not path.is_file():
            raise BackboneError(f"there is no file {name}", where="backbone")
        from ptune.backbone.gguf import converted

        return str(converted(path))
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise BackboneError(f"{name} holds no config.json, so it is no model folder", where="backbone")
        return str(path)
    if path.exists() or name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise BackboneError(f"there is no model at {name}", where="backbone", fix="name a folder, a .gguf file or a hub id")
    if "/" not in name:
        entry(name)  # a bare name is most likely a catalogue name with a slip: raises with the nearest one
    return name


def _from_pretrained(folder: str, name: str, dtype: torch.dtype) -> tuple[Any, Any]:
    from transformers import AutoConfig, AutoTokenizer

    try:
        with _quiet():
            config = AutoConfig.from_pretrained(folder)
            model = _load_model(folder, config, dtype)
            tokenizer = AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise BackboneError(
            f"{name} cannot be loaded: {str(error).strip().splitlines()[0]}",
            where="backbone",
            fix="check the name with `ptune models list`, or give a local folder",
        ) from error
    return model, tokenizer


def _load_model(folder: str, config: Any, dtype: torch.dtype) -> Any:
    """The model with its language head; without one where the checkpoint has none (it would be random)."""
    from transformers import (
        MODEL_FOR_CAUSAL_LM_MAPPING,
        MODEL_FOR_MASKED_LM_MAPPING,
        AutoModel,
        AutoModelForCausalLM,
        AutoModelForMaskedLM,
        AutoModelForSeq2SeqLM,
    )

    architecture = (getattr(config, "architectures", None) or [""])[0]
    with_head: Any
    if getattr(config, "is_encoder_decoder", False):
        with_head = AutoModelForSeq2SeqLM
    elif type(config) in MODEL_FOR_MASKED_LM_MAPPING and not architecture.endswith(("ForCausalLM", "LMHeadModel")):
        with_head = AutoModelForMaskedLM
    elif type(config) in MODEL_FOR_CAUSAL_LM_MAPPING:
        with_head = AutoModelForCausalLM
    else:
        with_head = AutoModel
    model, report = with_head.from_pretrained(folder, config=config, dtype=dtype, output_loading_info=True)
    if not report["missing_keys"]:
        return model
    bare, report = AutoModel.from_pretrained(folder, dtype=dtype, output_loading_info=True)
    missing = [key for key in report["missing_keys"] if "pooler" not in key]
    if missing:
        raise ValueError(f"the checkpoint lacks weights such as {missing[0]}")
    return bare


def _device(name: str) -> torch.device:
    if name == "auto":
        has_mps = torch.backends.mps.is_available()
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if has_mps else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise BackboneError(f"device {name!r} is not to be had here", where="device", fix="use auto or cpu") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps transformers' reports and progress bars off the terminal."""
    from transformers.utils import logging as transformers_logging

    level, logger = transformers_logging.get_verbosity(), logging.getLogger("transformers")
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        logger.setLevel(level)
        if bars:
            transformers_logging.enable_progress_bar()
