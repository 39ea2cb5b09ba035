"""Words between text and answer that the model itself would write there, once it sees the right answer behind the gap.

In: a template, labelled rows and a model that sees both sides (masked or encoder-decoder). Out: templates with one to some
words in the gap, found by a beam whose score is the sum over the rows. Source: Gao et al. 2021 (LM-BFF), section 5.2, where T5
fills the gap for all rows at once. Deviations: the gap is filled word by word with whole words of the vocabulary, so that
masked models can do it too, and words of each length are candidates.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from ptune.backbone import Backbone
from ptune.data import Example
from ptune.model import PromptModel
from ptune.strategy.label_search import vocabulary_scores, vocabulary_words
from ptune.template import Choice, Field, Mask, Node, Template, Text, dominant_script

__all__ = ["around_gap", "can_infill", "infill_templates"]

_ANSWER = "right-answer"


def can_infill(backbone: Backbone) -> bool:
    """Whether the model sees what stands behind a gap."""
    return backbone.kind != "decoder"


def infill_templates(
    template: Template,
    examples: Sequence[Example],
    answers: Mapping[str, str],
    backbone: Backbone,
    *,
    max_length: int | None,
    longest: int,
    beam: int,
    num_frequent: int,
) -> list[Template]:
    """Templates whose words between text and answer were written by the model.

    Args:
        template: its own words in that place are left out.
        examples: labelled rows.
        answers: label -> the word that stands in the answer slot.
        backbone: masked or encoder-decoder.
        max_length: as in a recipe.
        longest: words at most.
        beam: fillings that are kept for each length, each a template.
        num_frequent: words of the vocabulary to choose among, the most frequent first.
    """
    front, mask, behind = around_gap(template)
    rows = [replace(e, fields={**e.fields, _ANSWER: answers[str(e.label)]}) for e in examples]
    texts = [value for example in examples for value in example.fields.values() if isinstance(value, str)]
    space = "" if dominant_script(" ".join(texts)) == "unspaced" else " "

    apart = [Text(space)] if space else []

    def filled(words: Sequence[str]) -> list[Node]:
        """The front with these words behind it."""
        text = space.join(words)
        return [*front, Text((space if front else "") + text)] if text else list(front)

    def gap(words: Sequence[str]) -> Template:
        """The template that asks for the next word, in front of the answer."""
        return Template((*filled(words), Mask(), *apart, Field(_ANSWER, shortenable=False), *behind))

    known = vocabulary_words(gap(()), backbone.tokens, num_frequent, texts)
    names = list(known)
    if len(names) < 2:
        return []
    hypotheses: list[tuple[float, tuple[str, ...]]] = [(0.0, ())]
    found: list[Template] = []
    for _ in range(longest):
        longer: list[tuple[float, tuple[str, ...]]] = []
        for score, words in hypotheses:
            model = PromptModel.build(
                backbone=backbone,
                template=gap(words),
                labels={"0": [names[0]], "1": [names[1]]},
                method="hard",
                max_length=max_length,
            )
            sums = vocabulary_scores(model, rows, list(known.values())).sum(0)
            best = torch.topk(sums, min(beam, len(names)))
            pairs = zip(best.values.tolist(), best.indices.tolist(), strict=True)
            longer += [(score + value, (*words, names[at])) for value, at in pairs]
        hypotheses = sorted(longer, key=lambda one: (-one[0], one[1]))[:beam]
        found += [Template((*filled(words), mask, *behind)) for _, words in hypotheses]
    return found


def around_gap(template: Template) -> tuple[list[Node], Node, list[Node]]:
    """What stands up to the last text in front of the answer, the answer slot, and what stands behind it."""
    before = template.before_mask()
    last = max((at for at, node in enumerate(before) if isinstance(node, Field | Choice)), default=-1)
    return list(before[: last + 1]), template.nodes[len(before)], list(template.after_mask())
