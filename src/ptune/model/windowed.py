"""What tagging and extractive question answering share: tokens of one long field are read, and a text too long has windows.

In: rows. Out: windows of them (`Windowed`), and batches whose reads are single tokens of the field. Learned tokens, special
ones and the template's own words are never read, so that no label and no span can fall on them.
"""

from abc import ABC
from collections.abc import Sequence
from typing import Any, ClassVar

from ptune.backbone import Backbone
from ptune.data import Example
from ptune.errors import RecipeError, TemplateError
from ptune.inputs import Windowed, encode_windows
from ptune.model.task_model import TaskModel
from ptune.prompt import DeepConfig, registration
from ptune.template import Field, Soft, Template

__all__ = ["TOKEN_HEAD_RATE", "WindowedModel"]

TOKEN_HEAD_RATE = 3e-3
"""Default AdamW learning rate of a head that reads every token. On names (300 sentences, MiniLM, 16 learned keys a layer, two
seeds, judged on validation rows) it gives F1 0.60, and so does 1e-3; a pooled head's 1e-2 gives 0.56."""


class WindowedModel(TaskModel, ABC):
    """A kind of task that reads the tokens of one field.

    Class attributes:
        long_field: its name in the template.

    Args:
        backbone, template: as in `TaskModel`.
        doc_stride: tokens that two neighbouring windows of a long text share; None for a third of a window.
        **common: as in `TaskModel`.
    """

    long_field: ClassVar[str]

    def __init__(self, backbone: Backbone, template: Template, *, doc_stride: int | None = None, **common: Any) -> None:
        super().__init__(backbone, template, **common)
        self.doc_stride = doc_stride
        self._check_template()
        if self.tune == "lm-head":
            raise RecipeError(f"{self.kind} reads no words, so there is no output layer to train", where="tune", fix="use lm")

    def windows(self, example: Example, text: str) -> Windowed:
        """A row in windows; the field's text is `text`, without the white space at its ends.

        Raises:
            TemplateError: a missing field, or no room for the text; the message names the row.
        """
        try:
            return encode_windows(
                self.template.render({**example.fields, self.long_field: text}),
                self.backbone.tokens,
                self.layout,
                self.long_field,
                max_length=self.max_length,
                overlap=self.doc_stride,
                lead=registration(self.method).num_lead(self.method),
            )
        except TemplateError as error:
            where = ", ".join(filter(None, (example.where, error.where)))
            raise TemplateError(error.what, where=where, fix=error.fix) from None

    def parameter_groups(self, learning_rate: float | None = None) -> list[dict[str, Any]]:
        """As in `TaskModel`, with a head's rate for many labels a text."""
        groups = super().parameter_groups()
        for group in groups:
            if group["name"] == "head":
                group["lr"] = TOKEN_HEAD_RATE
        if groups and learning_rate is not None:
            groups[0]["lr"] = learning_rate
        return groups

    @property
    def num_answer_tokens(self) -> int:
        """Nothing is written into a row."""
        return 0

    @property
    def can_share_a_batch(self) -> bool:
        """As in `TaskModel`: tokens are read where they stand, but a gate is the prompt's own."""
        has_gates = isinstance(self.method, DeepConfig) and self.method.gate
        return self.backbone.kind != "encoder-decoder" and not has_gates

    def why_not_keep(self) -> str:
        """Nothing is kept: states are read at the text's own tokens, and these must then be computed behind what is learned."""
        return super().why_not_keep() or (
            "the text's own tokens are read, and what is learned stands in front of them, so that they change with every step"
        )

    def _check_template(self) -> None:
        """Whether the field's tokens can be read, and see what is learned.

        Raises:
            TemplateError: no such field, an answer slot, or learned tokens that a causal model's text cannot see.
        """
        nodes, name = self.template.nodes, self.long_field
        places = [number for number, node in enumerate(nodes) if isinstance(node, Field) and node.name == name]
        if not places:
            raise TemplateError(
                f"the template has no {{{name}}}, whose tokens are read", where="template", fix=f"write {{{name}}}"
            )
        if self.template.num_masks:
            raise TemplateError(
                f"the template has {{mask}}, but {self.kind} fills no slot", where="template", fix="take {mask} out"
            )
        if any(isinstance(node, Field) and node.name == name and node.max_tokens for node in nodes):
            raise TemplateError(
                f"{{{name}}} has a limit (max=), but a long text is read in windows, so that all of it is seen",
                where="template",
                fix="take max= out; max_length sets how long a window is",
            )
        if self.backbone.kind != "decoder":
            return
        soft = [number for number, node in enumerate(nodes) if isinstance(node, Soft)]
        is_behind = isinstance(self.method, DeepConfig) and self.method.placement == "behind"
        if is_behind or (soft and min(soft) > places[-1]):
            raise TemplateError(
                f"what is learned stands behind {{{name}}}, whose tokens on a causal model see nothing of what follows them",
                where="method.placement" if is_behind else "template",
                fix="use placement: front" if is_behind else f"move {{soft}} in front of {{{name}}}",
            )


def margin(text: str) -> int:
    """Characters of white space in front of a text, which a template leaves out."""
    return len(text) - len(text.lstrip())


def pairs(spans: Sequence[tuple[int, int]], shift: int) -> tuple[tuple[int, int], ...]:
    """Ranges of characters moved on."""
    return tuple((start + shift, end + shift) for start, end in spans)
