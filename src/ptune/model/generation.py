"""Writing a text into the answer slot of a template: summaries, descriptions of data, titles, rewritings.

In: rows with the template's fields and, to learn from, `target` (and `references` to be compared with). Out: the text behind a
causal model's prompt, or of an encoder-decoder's decoder. What is learned is the target and what ends it: the model's end
token, or a `terminator` that the recipe names.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeVar

from ptune.backbone import Backbone
from ptune.data import Example
from ptune.errors import BackboneError, DataError, TemplateError
from ptune.inputs import Continued
from ptune.model.task_model import TaskKind
from ptune.model.writing_model import WritingModel
from ptune.objective import check_text_metrics
from ptune.template import Template, Text

__all__ = ["GenerationModel"]

G = TypeVar("G", bound="GenerationModel")


class GenerationModel(WritingModel):
    """See the module's docstring.

    Args:
        backbone, template, max_new_tokens, decode: as in `WritingModel`.
        terminator: text that is learned behind every target and at which writing ends; empty takes the model's end token.
        references: the column that holds further right answers, if there is one.
        **common: as in `TaskModel`.
    """

    kind: ClassVar[TaskKind] = "generation"
    keys = ("references", "max_new_tokens", "terminator", "decode")
    target_keys = ("target",)

    def __init__(
        self,
        backbone: Backbone,
        template: Template,
        *,
        max_new_tokens: int = 64,
        terminator: str = "",
        references: str = "references",
        decode: Mapping[str, Any] | None = None,
        **common: Any,
    ) -> None:
        super().__init__(
            backbone,
            template,
            max_new_tokens=max_new_tokens,
            decode=decode,
            stop=(terminator,) if terminator else (),
            **common,
        )
        _check_template(template, backbone)
        self.terminator, self.references_column = terminator, references
        end = backbone.tokens.tokenizer.eos_token_id
        if end is None and not terminator:
            raise BackboneError(
                f"{backbone.spec.name} has no token that ends a text",
                where="terminator",
                fix='name a text that ends every answer, as in terminator: "\\n"',
            )
        self._end: tuple[int, ...] = () if terminator else (int(end),)
        self.to(backbone.device)

    @classmethod
    def check_rows(
        cls, rows: Sequence[Example], *, columns: Mapping[str, str], labels: tuple[str, ...], is_training: bool
    ) -> None:
        """Refuses rows whose target is no text, and missing packages for the figures."""
        for row in rows:
            target = row.fields[columns["target"]]
            if not isinstance(target, str) or not target.strip():
                what = "is empty" if isinstance(target, str) else "is a list"
                fix = "give one text (further right answers go into references), or remove the row"
                raise DataError(f"the target '{columns['target']}' {what}", where=row.where, fix=fix)
        if rows and not is_training:
            check_text_metrics()

    def learned(self, example: Example) -> tuple[Continued, ...]:
        """The prompt and the target; of one that is too long the beginning, and then no end is learned.

        Raises:
            DataError: the target holds the terminator, at which writing would end.
        """
        target = str(self.value(example, "target")).strip()
        if self.terminator and self.terminator in target:
            raise DataError(
                f"the target holds the terminator {self.terminator!r}",
                where=example.where,
                fix="choose another terminator, or leave it out",
            )
        ids = (*self._word_ids(target + self.terminator, target), *self._end)[: self.max_new_tokens]
        return (Continued(self.encode(example), ids, (True,) * len(ids), target),)

    def asked(self, example: Example) -> Continued:
        """The prompt alone."""
        return Continued(self.encode(example))

    def references(self, example: Example) -> tuple[str, ...]:
        """The texts of the column `references` (a list, or the JSON text of one), else the target.

        Raises:
            DataError: the row has neither.
        """
        given = example.fields.get(self.references_column)
        if isinstance(given, str):
            given = _listed(given)
        texts = tuple(text for text in given or () if text.strip())
        return texts or (str(self.value(example, "target")),)

    def _word_ids(self, text: str, word: str) -> tuple[int, ...]:
        """The answer's tokens as they stand behind the prompt, or in the decoder."""
        if self.backbone.kind == "encoder-decoder":
            return self.backbone.tokens.ids(text)
        before = self.template.before_mask()
        left = before[-1].text.rstrip()[-1:] if before and isinstance(before[-1], Text) else ""
        return self.backbone.tokens.word_ids(self.template.word_prefix(word) + text, left)

    def settings(self) -> dict[str, Any]:
        """What `restore` takes back."""
        return {**super().settings(), "terminator": self.terminator, "references": self.references_column}

    @classmethod
    def restore(cls: type[G], settings: Mapping[str, Any], *, backbone: Backbone, template: Template, **common: Any) -> G:
        """A trained model from a card's `settings`."""
        own = {key: settings[key] for key in ("max_new_tokens", "decode", "terminator", "references")}
        return cls(backbone, template, **own, **common)


def _check_template(template: Template, backbone: Backbone) -> None:
    """Whether the answer has its place: at the end for a causal model, which reads from left to right.

    Raises:
        TemplateError: it has none, several, or one with something behind it.
    """
    if template.num_masks > 1:
        raise TemplateError(f"the template has {template.num_masks} answer slots", where="template", fix="keep one {mask}")
    if backbone.kind == "encoder-decoder":
        return
    if template.num_masks == 0 or template.after_mask():
        what = "has no answer slot" if template.num_masks == 0 else "goes on behind {mask}, which a causal model never reads"
        raise TemplateError(
            f"the template {what}", where="template", fix='end it with {mask}, as in "{input}\\nSummary:{mask}"'
        )
    if not template.before_mask() and not backbone.tokens.start_ids:
        raise TemplateError("nothing stands left of {mask} for a causal model to read", where="template")


def _listed(text: str) -> tuple[str, ...]:
    """The texts of a JSON list, or the text itself."""
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    return tuple(map(str, value)) if isinstance(value, list) else (text,)
