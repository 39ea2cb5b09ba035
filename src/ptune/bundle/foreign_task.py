"""A task of any kind around a foreign prompt: what its file does not hold is said by the user, or is the kind's own.

In: a prompt's tensors and method, what is wanted, and a head if there is one. Out: a `TaskModel`. Kinds are built through
`TaskModel.restore`, from the settings that a bundle's card would keep.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ptune.backbone import Backbone
from ptune.bundle.heads import HEAD_KINDS, ForeignHead
from ptune.bundle.peft_format import PeftAdapter
from ptune.bundle.prefix_checkpoint import PrefixCheckpoint
from ptune.bundle.prompt_tensors import stored_prompt
from ptune.data import tag_names, tag_scheme, tag_types
from ptune.errors import BundleError
from ptune.inputs import PoolKind, soft_layout
from ptune.model import TaskModel, task_class
from ptune.prompt import parse_method, registration
from ptune.readout import Verbalizer
from ptune.template import Template

__all__ = ["Wanted", "kind_of_head", "task_on"]

_WRITING = ("generation", "dialogue")
_NEW_TOKENS = 64
_EXAMPLE = "write --template '{text} It was{mask}' --labels positive=great --labels negative=terrible"


@dataclass(frozen=True)
class Wanted:
    """What shall become of a foreign prompt.

    Args:
        kind: of task.
        template: as given.
        labels: label words, or names of classes, as given.
        has_head: whether the file's head is used.
    """

    kind: str
    template: str | None
    labels: Mapping[str, Any] | Sequence[str] | None
    has_head: bool

    def check(self, path: Path) -> None:
        """Whether what the file lacks is given: a head reads the plain text, label words need a place in a template.

        Raises:
            RecipeError: there is no such kind of task.
            BundleError: template, label words or names of tags are missing, or the kind needs more than a prompt.
        """
        task_class(self.kind)
        lacks = ""
        if self.kind == "tagging" and self.has_head and not self.labels:
            raise BundleError(
                f"{path} does not name its tags",
                where="--labels",
                fix="name them in the head's order: --labels O --labels B-PER --labels I-PER",
            )
        if self.kind == "classification" and not self.has_head:
            lacks = "template" if self.template is None else "" if isinstance(self.labels, Mapping) else "label words"
        elif self.kind == "generation":
            lacks = "template" if self.template is None else ""
        elif self.kind not in (*_WRITING, *(HEAD_KINDS.values() if self.has_head else ())):
            raise BundleError(
                f"{path} holds a prompt alone, and task {self.kind} needs more than that",
                where="import",
                fix="import it for classification, generation or dialogue, or train from it with init: bundle",
            )
        if lacks:
            fix = _EXAMPLE if self.kind == "classification" else "write --template '{text}{mask}'"
            raise BundleError(f"{path} holds a prompt alone, without the {lacks} that it needs", where="import", fix=fix)


def kind_of_head(adapter: PeftAdapter | None, checkpoint: PrefixCheckpoint | None) -> str | None:
    """The kind of task that a file's head is for, or None without one.

    P-Tuning v2 classifies texts on a pooler, which lies in its file then, and words without one.
    """
    if adapter is not None:
        return HEAD_KINDS.get(adapter.task_type or "") if adapter.head else None
    if checkpoint is None or not checkpoint.head:
        return None
    if any(name.startswith("qa_outputs") for name in checkpoint.head):
        return "qa"
    return "classification" if checkpoint.pooler else "tagging"


def task_on(
    backbone: Backbone,
    tensors: Mapping[str, Tensor],
    method: Mapping[str, Any],
    wanted: Wanted,
    head: ForeignHead | None,
    max_length: int | None,
) -> TaskModel:
    """The task on a loaded backbone.

    Args:
        tensors: of the prompt, by their names in a bundle.
        method: that stands for it.
        wanted: kind, template and labels.
        head: that comes along.
        max_length: as in a recipe.

    Raises:
        PtuneError: what is wanted does not fit the prompt, the head or the backbone.
    """
    config = parse_method(method)
    cls = task_class(wanted.kind)
    words = wanted.template or _default_template(cls, backbone)
    template = registration(config).template(config, Template.parse(words))
    names = _class_names(wanted, head)
    settings, head = _settings(wanted, names, head, backbone, is_deep="rows" not in tensors)
    model = cls.restore(
        settings,
        backbone=backbone,
        template=template,
        method=config,
        layout=soft_layout(template, backbone.tokens),
        start=stored_prompt(tensors, backbone, moves_text=getattr(config, "moves_text", True)),
        columns=None,
        max_length=max_length,
        tune="frozen",
    )
    if head is not None:
        assert model.head is not None
        model.head.load_state_dict(dict(head.state))
    return model.requires_grad_(False)


def _default_template(cls: type[TaskModel], backbone: Backbone) -> str:
    """The plain text; of a question, RoBERTa's kin put two separators between the parts."""
    if cls.kind == "qa" and backbone.spec.architecture in ("roberta", "xlm-roberta", "camembert"):
        return "{question}{sep}{sep}{context}"
    return cls.default_template or "{text}"


def _class_names(wanted: Wanted, head: ForeignHead | None) -> tuple[str, ...]:
    """Names of a head's classes; numbers where there are none.

    Raises:
        BundleError: more or fewer names than classes.
    """
    if head is None or wanted.kind == "qa":
        return ()
    names = tuple(wanted.labels or map(str, range(head.num_classes)))
    if len(names) != head.num_classes:
        what = f"{len(names)} labels are given, and the head has {head.num_classes} classes"
        raise BundleError(what, where="--labels", fix="name each class, in the head's order")
    return names


def _settings(
    wanted: Wanted, names: tuple[str, ...], head: ForeignHead | None, backbone: Backbone, *, is_deep: bool
) -> tuple[dict[str, Any], ForeignHead | None]:
    """What a bundle's card would keep of the kind, and the head in the order that the kind wants."""
    form = {} if head is None else {"form": asdict(head.form)}
    settings: dict[str, Any]
    if wanted.kind == "tagging":
        assert head is not None
        types, scheme = tag_types([names]), tag_scheme([names])
        order = tag_names(types, scheme)
        if sorted(order) != sorted(names):
            what = f"the tags {', '.join(names)} are not all tags of {scheme}, which are {', '.join(order)}"
            raise BundleError(what, where="--labels", fix="name each class, in the head's order")
        settings = {"labels": types, "scheme": scheme, "valid_tags": True, "word_piece": "first", "doc_stride": None}
        return {**settings, **form}, head.in_order([names.index(tag) for tag in order])
    if wanted.kind == "qa":
        settings = {"may_abstain": False, "threshold": 0.0, "max_answer_tokens": 30, "n_best": 5, "doc_stride": None}
        return {**settings, **form}, head
    if wanted.kind in _WRITING:
        num_new = min(_NEW_TOKENS, (backbone.spec.max_positions or 2 * _NEW_TOKENS) // 2)
        kept = {"terminator": "", "references": "references"} if wanted.kind == "generation" else {"chat_template": None}
        return {"max_new_tokens": num_new, "decode": {}, **kept}, None
    if head is not None:
        return {"labels": names, "verbalizer": None, "pool": _pool(backbone, is_deep), "fill": "parallel", **form}, head
    assert isinstance(wanted.labels, Mapping)
    verbalizer = Verbalizer.parse(wanted.labels)
    return {"labels": verbalizer.labels, "verbalizer": asdict(verbalizer), "pool": None, "fill": "parallel"}, None


def _pool(backbone: Backbone, is_deep: bool) -> PoolKind:
    """What a head was trained to read: with rows in front, an encoder's first place is a learned token (in PEFT)."""
    if backbone.kind == "decoder":
        return "last"
    return "cls" if is_deep else "first"
