"""PEFT's folders for learned prompts, read and written on JSON and safetensors alone.

In: a folder with `adapter_config.json` and `adapter_model.safetensors`. Out: `PeftAdapter`, from which rows or keys and values
are taken, or which is written again. Format: that of peft 0.21 (observed from its own files; `peft` itself is not imported).
Keys and values lie as [n, N, 2, H_kv, K] in one row per virtual token. For encoder-decoder models PEFT repeats that list and
cuts it in fours, so that layer i of the decoder reads pair (2 * i) mod N, where N counts the *encoder's* layers.
"""

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Literal

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ptune.errors import BundleError

__all__ = [
    "ADAPTER_CONFIG",
    "DEEP_TYPES",
    "PeftAdapter",
    "PeftType",
    "TaskType",
    "decoder_pairs",
    "flat_of_pairs",
    "pairs_of_flat",
    "read_peft",
    "read_tensors",
]

PeftType = Literal["PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING", "CARTRIDGE", "MULTITASK_PROMPT_TUNING", "CPT"]
TaskType = Literal["CAUSAL_LM", "SEQ_2_SEQ_LM", "SEQ_CLS", "TOKEN_CLS", "QUESTION_ANS", "FEATURE_EXTRACTION"]

ADAPTER_CONFIG = "adapter_config.json"
DEEP_TYPES = ("PREFIX_TUNING", "CARTRIDGE")
_SOFT_TYPES = ("PROMPT_TUNING", "P_TUNING", "CPT", "MULTITASK_PROMPT_TUNING")
_WEIGHTS = "adapter_model.safetensors"
_PICKLE = "adapter_model.bin"
_PROMPT = "prompt_embeddings"
_COLS, _ROWS = "prefix_task_cols", "prefix_task_rows"
_BASE = "base_model."
_OWN = "ptune."
_FORMAT_VERSION = "0.21.2"

# What each method's file has beside the keys that all have; the values are those of a prompt that is done with training.
_EXTRA_KEYS: Mapping[str, Mapping[str, Any]] = {
    "PROMPT_TUNING": {
        "prompt_tuning_init": "RANDOM",
        "prompt_tuning_init_text": None,
        "tokenizer_kwargs": None,
        "tokenizer_name_or_path": None,
    },
    "P_TUNING": {"encoder_dropout": 0.0, "encoder_num_layers": 2, "encoder_reparameterization_type": "MLP"},
    "PREFIX_TUNING": {"init_weights": None, "prefix_projection": False},
}


@dataclass(frozen=True)
class PeftAdapter:
    """A learned prompt as PEFT keeps it.

    Args:
        peft_type: its method.
        task_type: its task, or None where the file does not say.
        num_tokens: n, virtual tokens.
        tensors: `prompt_embeddings` and what else the method has, the head's weights under `base_model.`, and under `ptune.`
            what PEFT passes over.
        config: the whole `adapter_config.json`, or the keys that shall differ from what `write` would put there.
    """

    peft_type: str
    task_type: str | None
    num_tokens: int
    tensors: Mapping[str, Tensor]
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_deep(self) -> bool:
        """Whether it holds keys and values per layer, not rows."""
        return self.peft_type in DEEP_TYPES

    @property
    def base_model(self) -> str | None:
        """The model that it was trained on, as the file names it."""
        name = self.config.get("base_model_name_or_path")
        return name if isinstance(name, str) and name else None

    @property
    def head(self) -> dict[str, Tensor]:
        """Weights of a head, named as in the base model (`classifier.weight`)."""
        return {name.removeprefix(_BASE): value for name, value in self.tensors.items() if name.startswith(_BASE)}

    @property
    def own(self) -> dict[str, Tensor]:
        """What ptune put beside the prompt, which PEFT passes over: the calibration, a head of ptune's own."""
        return {name.removeprefix(_OWN): value for name, value in self.tensors.items() if name.startswith(_OWN)}

    def rows(self, task_id: int | None = None) -> Float[Tensor, "P E"]:
        """The virtual tokens' embeddings.

        PEFT keeps twice as many rows for an encoder-decoder model and never reads the second half.

        Args:
            task_id: which task of a multitask prompt.

        Raises:
            BundleError: a prompt of keys and values, a missing or unknown task, or rows for a decoder too.
        """
        if self.is_deep:
            raise BundleError(f"{self.peft_type} holds keys and values per layer, not rows", where=ADAPTER_CONFIG)
        prompt = self.tensors[_PROMPT].float()
        if self.peft_type != "MULTITASK_PROMPT_TUNING":
            if task_id is not None:
                raise BundleError(f"{self.peft_type} has one task", where="--task-id", fix="leave it out")
            return prompt[: self.num_tokens]
        if len(prompt) != self.num_tokens:
            raise BundleError(
                "this multitask prompt puts learned tokens in front of the decoder's text too, which ptune does not",
                where=_WEIGHTS,
                fix="train it with num_transformer_submodules=1",
            )
        cols, rows = self.tensors[_COLS].float(), self.tensors[_ROWS].float()
        if task_id is None or not 0 <= task_id < len(cols):
            what = "no task is named" if task_id is None else f"there is no task {task_id}"
            raise BundleError(
                f"the prompt serves {len(cols)} tasks, but {what}", where="--task-id", fix=f"0 to {len(cols) - 1}"
            )
        return prompt * (cols[task_id] @ rows[task_id])

    def pairs(self, num_layers: int, num_heads: int, head_size: int) -> Float[Tensor, "2 N H P K"]:
        """Keys and values of each pair of the list, in the file's order; of an encoder-decoder, see `decoder_pairs`.

        Raises:
            BundleError: a prompt of rows, or one of other sizes than the model's.
        """
        if not self.is_deep:
            raise BundleError(f"{self.peft_type} holds rows, not keys and values per layer", where=ADAPTER_CONFIG)
        return pairs_of_flat(self.tensors[_PROMPT], num_layers, num_heads, head_size, where=_WEIGHTS)

    def write(self, folder: Path) -> None:
        """Writes both files as PEFT does; of methods that are only read here, the file's own keys are written again."""
        config = {
            "auto_mapping": None,
            "base_model_name_or_path": None,
            "inference_mode": True,
            "modules_to_save": _head_modules(self.task_type),
            "num_attention_heads": None,
            "num_layers": None,
            "num_transformer_submodules": 1,
            "num_virtual_tokens": self.num_tokens,
            "peft_type": self.peft_type,
            "peft_version": _FORMAT_VERSION,
            "revision": None,
            "task_type": self.task_type,
            "token_dim": None,
            **_EXTRA_KEYS.get(self.peft_type, {}),
            **self.config,
        }
        if self.peft_type in ("P_TUNING", "PREFIX_TUNING"):
            config.setdefault("encoder_hidden_size", config["token_dim"])
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ADAPTER_CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf-8")
        tensors = {name: value.detach().cpu().float().contiguous() for name, value in self.tensors.items()}
        save_file(tensors, folder / _WEIGHTS, metadata={"format": "pt"})


def read_peft(folder: str | Path) -> PeftAdapter:
    """Reads an adapter; a pickled file is read as tensors only.

    Raises:
        BundleError: no adapter there, one of a method that learns no prompt, or a broken one.
    """
    path = Path(folder).expanduser()
    config = _read_config(path)
    peft_type, task_type = config.get("peft_type"), config.get("task_type")
    where = str(path / ADAPTER_CONFIG)
    if peft_type not in (*DEEP_TYPES, *_SOFT_TYPES):
        raise BundleError(
            f"{peft_type} is no learned prompt, so ptune cannot use it",
            where=where,
            fix=f"ptune reads {', '.join((*_SOFT_TYPES, *DEEP_TYPES))}",
        )
    tensors = _read_tensors(path)
    needed = (_PROMPT, _COLS, _ROWS) if peft_type == "MULTITASK_PROMPT_TUNING" else (_PROMPT,)
    missing = [name for name in needed if name not in tensors]
    if missing:
        raise BundleError(f"the adapter's weights lack {', '.join(missing)}", where=str(path), fix="save the adapter again")
    num_tokens = config.get("num_virtual_tokens")
    if peft_type == "CPT":
        num_tokens = len(tensors[_PROMPT])  # PEFT takes it from the ids that the prompt started from
    if (
        not isinstance(num_tokens, int)
        or tensors[_PROMPT].dim() != 2
        or len(tensors[_PROMPT]) not in (num_tokens, 2 * num_tokens)
    ):
        shape = list(tensors[_PROMPT].shape)
        raise BundleError(f"num_virtual_tokens is {num_tokens}, but the weights are {shape}", where=where)
    return PeftAdapter(peft_type, task_type, num_tokens, tensors, config)


def pairs_of_flat(
    flat: Float[Tensor, "P W"], num_layers: int, num_heads: int, head_size: int, *, where: str
) -> Float[Tensor, "2 N H P K"]:
    """Keys and values from one row per virtual token, in which keys and values take turns layer by layer.

    Raises:
        BundleError: another number of layers, heads or numbers per head.
    """
    expected = 2 * num_layers * num_heads * head_size
    if flat.shape[1] != expected:
        raise BundleError(
            f"the prefix has {flat.shape[1]} numbers for each virtual token, but the backbone's {num_layers} layers with "
            f"{num_heads} key heads of {head_size} take {expected}",
            where=where,
            fix="name the backbone that it was trained on",
        )
    return flat.float().view(len(flat), num_layers, 2, num_heads, head_size).permute(2, 1, 3, 0, 4).contiguous()


def flat_of_pairs(pairs: Float[Tensor, "2 N H P K"]) -> Float[Tensor, "P W"]:
    """The inverse of `pairs_of_flat`."""
    return pairs.permute(3, 1, 0, 2, 4).flatten(1).contiguous()


def decoder_pairs(num_pairs: int, num_decoder_layers: int) -> tuple[int, ...]:
    """Which pair of the list each layer of an encoder-decoder's decoder reads in PEFT.

    Args:
        num_pairs: N, which is the encoder's number of layers.
        num_decoder_layers: layers beyond N read none and are left out.
    """
    return tuple(2 * layer % num_pairs for layer in range(min(num_pairs, num_decoder_layers)))


def _head_modules(task_type: str | None) -> list[str] | None:
    """The head's name in the base model, by which PEFT finds it."""
    known = {"SEQ_CLS": ["classifier", "score"], "TOKEN_CLS": ["classifier", "score"], "QUESTION_ANS": ["qa_outputs"]}
    return known.get(task_type or "")


def _read_config(path: Path) -> dict[str, Any]:
    file = path / ADAPTER_CONFIG
    if not file.is_file():
        inner = sorted(found.parent.name for found in path.glob(f"*/{ADAPTER_CONFIG}"))
        hint = f"its adapters lie in {', '.join(inner)}: name one of these folders" if inner else "name the folder PEFT wrote"
        raise BundleError(f"there is no {ADAPTER_CONFIG} in {path}", where=str(path), fix=hint)
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise BundleError(f"{ADAPTER_CONFIG} cannot be read: {error}", where=str(file)) from None
    if not isinstance(config, dict):
        raise BundleError(f"{ADAPTER_CONFIG} is no mapping", where=str(file))
    return config


def _read_tensors(path: Path) -> dict[str, Tensor]:
    names: Sequence[str] = (_WEIGHTS, _PICKLE)
    file = next((path / name for name in names if (path / name).is_file()), None)
    if file is None:
        raise BundleError(f"there is neither {_WEIGHTS} nor {_PICKLE} in {path}", where=str(path))
    return read_tensors(file)


def read_tensors(file: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file, or of a pickle that holds nothing else.

    Raises:
        BundleError: the file is broken, or a pickle wants more than tensors.
    """
    try:
        if file.suffix == ".safetensors":
            return dict(load_file(file))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # an unusual pickle protocol: what is not understood is refused anyway
            loaded = torch.load(file, map_location="cpu", weights_only=True)
    except UnpicklingError:
        what = "the file holds more than tensors, so it is not opened"
        raise BundleError(what, where=str(file), fix="save it as safetensors") from None
    except (OSError, SafetensorError, RuntimeError, EOFError, ValueError) as error:
        raise BundleError(f"the weights cannot be read: {str(error).splitlines()[0]}", where=str(file)) from None
    if not isinstance(loaded, dict) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise BundleError("the file is no dictionary of tensors", where=str(file))
    return loaded
