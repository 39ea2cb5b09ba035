"""Classification heads between ptune and the files of other tools, by the names that transformers gives their layers.

In: a task with a `ModelHead`, or the weights beside an adapter or in a checkpoint. Out: the other. A `LinearHead` brings its
input to unit scale, which no head of transformers does, so it has no such form. BERT's dense layer is its pooler: where a file
holds the classes alone (PEFT trains only these), the dense layer is the backbone's own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import safe_open
from torch import Tensor, nn

from ptune.backbone import Backbone
from ptune.errors import BundleError
from ptune.model import TaskModel
from ptune.readout import HeadForm, ModelHead, form_of

__all__ = ["ForeignHead", "foreign_head", "head_tensors"]


@dataclass(frozen=True)
class ForeignHead:
    """A head that other code has trained.

    Args:
        form: its layers.
        state: as `ModelHead.state_dict`.
        num_classes: C.
    """

    form: HeadForm
    state: Mapping[str, Tensor]
    num_classes: int


@dataclass(frozen=True)
class _Names:
    """Where the two layers lie in transformers' classification model.

    Args:
        dense: the dense layer, "" where there is none.
        linear: the classes.
    """

    dense: str
    linear: str


_BERT = _Names("bert.pooler.dense", "classifier")
_ROBERTA = _Names("classifier.dense", "classifier.out_proj")
_DECODER = _Names("", "score")


def head_tensors(model: TaskModel) -> dict[str, Tensor] | None:
    """A task's head under the names of transformers' own model, or None where it has no such form."""
    head = model.head
    if not isinstance(head, ModelHead):
        return None
    names = _names(model.backbone)
    layers = {names.linear: head.linear} | ({names.dense: head.dense} if head.dense is not None else {})
    return {f"{name}.{part}": value for name, layer in layers.items() for part, value in layer.state_dict().items()}


def foreign_head(given: Mapping[str, Tensor], backbone: Backbone, pooler: Mapping[str, Tensor] | None = None) -> ForeignHead:
    """The head among a file's tensors.

    Args:
        given: tensors by their names in transformers' model.
        backbone: whose hidden states it reads.
        pooler: `dense.weight` and `dense.bias` of a pooler, where the file has one.

    Raises:
        BackboneError: the backbone's own head is of a form that ptune does not know.
        BundleError: the file's head is of another form, or needs a pooler that is nowhere to be found.
    """
    form = form_of(backbone.spec.architecture, is_decoder=backbone.kind == "decoder")
    names = _names(backbone)
    if f"{names.linear}.weight" not in given and f"{_BERT.linear}.weight" in given and pooler:
        names = _BERT  # P-Tuning v2 puts BERT's head on RoBERTa's pooler
    weight = given.get(f"{names.linear}.weight")
    if weight is None or (f"{names.linear}.bias" in given) != form.bias:
        raise BundleError(
            f"the head {', '.join(sorted(given)) or '(none)'} is not that of a {backbone.spec.architecture} classifier",
            where="import",
            fix="give label words with --labels NAME=WORD to read the prompt without its head",
        )
    state = {
        f"linear.{part}": given[f"{names.linear}.{part}"].float()
        for part in ("weight", "bias")
        if form.bias or part == "weight"
    }
    if form.activation is not None:
        dense = {part: given.get(f"{names.dense}.{part}") for part in ("weight", "bias")}
        for part, value in dense.items():
            found = value if value is not None else (pooler or {}).get(f"dense.{part}")
            state[f"dense.{part}"] = (_own_pooler(backbone, part) if found is None else found).float()
    return ForeignHead(form, state, len(weight))


def _names(backbone: Backbone) -> _Names:
    if backbone.kind == "decoder":
        return _DECODER
    return _BERT if backbone.spec.architecture == "bert" else _ROBERTA


def _own_pooler(backbone: Backbone, part: str) -> Tensor:
    """The backbone's own pooler: in the loaded model, or in its file, whose masked-language model leaves it out."""
    for name, module in backbone.model.named_modules():
        if name.endswith("pooler.dense") and isinstance(module, nn.Linear):
            found: Tensor = getattr(module, part).detach()
            return found
    file = Path(getattr(backbone.model.config, "_name_or_path", "") or ".") / "model.safetensors"
    if file.is_file():
        with safe_open(file, "pt") as weights:
            key = next((key for key in weights.keys() if key.endswith(f"pooler.dense.{part}")), None)  # noqa: SIM118
            if key is not None:
                kept: Tensor = weights.get_tensor(key)
                return kept
    raise BundleError(
        f"the head reads a pooler, which {backbone.spec.name} does not have",
        where="import",
        fix="name the model folder that it was trained on, or give label words with --labels NAME=WORD",
    )
