"""Heads between ptune and the files of other tools, by the names that transformers gives their layers.

In: a task with a `ModelHead`, or the weights beside an adapter or in a checkpoint. Out: the other. A `LinearHead` brings its
input to unit scale, which no head of transformers does, so it has no such form. BERT's dense layer is its pooler: where a file
holds the classes alone (PEFT trains only these), the dense layer is the backbone's own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors import safe_open
from torch import Tensor, nn

from ptune.backbone import Backbone
from ptune.errors import BundleError
from ptune.model import TaskModel
from ptune.readout import TOKEN_FORM, HeadForm, ModelHead, form_of

__all__ = ["HEAD_KINDS", "ForeignHead", "foreign_head", "head_tensors", "task_type_of"]


HEAD_KINDS: Mapping[str, str] = {"SEQ_CLS": "classification", "TOKEN_CLS": "tagging", "QUESTION_ANS": "qa"}
"""Kinds of task by PEFT's task types, where these have heads."""


@dataclass(frozen=True)
class ForeignHead:
    """A head that other code has trained.

    Args:
        form: its layers.
        state: as `ModelHead.state_dict`.
    """

    form: HeadForm
    state: Mapping[str, Tensor]

    @property
    def num_classes(self) -> int:
        """C."""
        return len(self.state["linear.weight"])

    def in_order(self, rows: Sequence[int]) -> "ForeignHead":
        """The same head with its classes in another order."""
        moved = {name: self.state[name][list(rows)] for name in ("linear.weight", "linear.bias") if name in self.state}
        return ForeignHead(self.form, {**self.state, **moved})


@dataclass(frozen=True)
class _Names:
    """Where the two layers lie in transformers' model of that kind.

    Args:
        dense: the dense layer, "" where there is none.
        linear: the classes.
    """

    dense: str
    linear: str


_BERT = _Names("bert.pooler.dense", "classifier")
_ROBERTA = _Names("classifier.dense", "classifier.out_proj")
_DECODER = _Names("", "score")


def task_type_of(model: TaskModel) -> str | None:
    """PEFT's task type of a task with a head, or None where it has no such head."""
    kinds = {kind: name for name, kind in HEAD_KINDS.items()}
    return kinds.get(model.kind, "SEQ_CLS") if isinstance(model.head, ModelHead) else None


def head_tensors(model: TaskModel) -> dict[str, Tensor]:
    """A task's head under the names of transformers' own model; none where it has no such form."""
    head = model.head
    if not isinstance(head, ModelHead):
        return {}
    names = _names(model.backbone, model.kind)
    layers = {names.linear: head.linear} | ({names.dense: head.dense} if head.dense is not None else {})
    return {f"{name}.{part}": value for name, layer in layers.items() for part, value in layer.state_dict().items()}


def foreign_head(
    given: Mapping[str, Tensor], backbone: Backbone, kind: str, pooler: Mapping[str, Tensor] | None = None
) -> ForeignHead:
    """The head among a file's tensors.

    Args:
        given: tensors by their names in transformers' model.
        backbone: whose hidden states it reads.
        kind: of task.
        pooler: `dense.weight` and `dense.bias` of a pooler, where the file has one.

    Raises:
        BackboneError: the backbone's own head is of a form that ptune does not know.
        BundleError: the file's head is of another form, or needs a pooler that is nowhere to be found.
    """
    reads_tokens = kind in ("tagging", "qa")
    form = TOKEN_FORM if reads_tokens else form_of(backbone.spec.architecture, is_decoder=backbone.kind == "decoder")
    names = _names(backbone, kind)
    if f"{names.linear}.weight" not in given and pooler and not reads_tokens:
        names = _BERT  # P-Tuning v2 puts BERT's head on RoBERTa's pooler
    parts = ("weight", "bias") if form.bias else ("weight",)
    if {name for name in given if name.startswith(f"{names.linear}.")} != {f"{names.linear}.{part}" for part in parts}:
        raise BundleError(
            f"the head {', '.join(sorted(given)) or '(none)'} is not that of a {backbone.spec.architecture} model for {kind}",
            where="import",
            fix="give label words with --labels NAME=WORD to read the prompt without its head",
        )
    state = {f"linear.{part}": given[f"{names.linear}.{part}"].float() for part in parts}
    if form.activation is not None:
        for part in ("weight", "bias"):
            found = given.get(f"{names.dense}.{part}", (pooler or {}).get(f"dense.{part}"))
            state[f"dense.{part}"] = (_own_pooler(backbone, part) if found is None else found).float()
    return ForeignHead(form, state)


def _names(backbone: Backbone, kind: str) -> _Names:
    if kind == "qa":
        return _Names("", "qa_outputs")
    if kind == "tagging":
        return _Names("", "score" if backbone.kind == "decoder" and backbone.spec.architecture != "gpt2" else "classifier")
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
