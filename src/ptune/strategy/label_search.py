"""Label words found by the model itself: what it would write after each label's texts, and after those more than others.

In: a recipe whose `labels` may be names alone. Out: `FoundLabels`: for each label a word and runners-up, as text to paste into
the recipe. Candidates are the model's own whole words, and, for texts written without spaces, words of several characters that
occur in the texts. All are scored exactly by the engine with the hard template. Source: see `readout/search.py`.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import yaml
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from ptune.backbone import Backbone, load_backbone
from ptune.data import Example
from ptune.errors import RecipeError, TemplateError, VerbalizerError
from ptune.inputs import Tokens
from ptune.model import PromptModel
from ptune.readout import FoundWord, Verbalizer, assign_words, rank_words
from ptune.recipe import Recipe, read_splits
from ptune.template import Template, dominant_script

__all__ = ["FoundLabels", "SearchSettings", "search_labels"]

_LONGEST_MINED = 4
_END = -1
"""Behind a word's tokens on a masked model, whose masks are as many as these: there a word may begin another."""


class SearchSettings(BaseModel):
    """The section `search:` of a recipe.

    Args:
        num_frequent: words of the vocabulary to look at, the most frequent first, in the texts' kind of script.
        num_mined: words of several characters to look at that occur in the texts (scripts without spaces).
        num_likely: of these, the likeliest on a label's texts are its candidates.
        min_consistency: lowest share of pairs of texts in which a word is likelier on the label's own.
        num_shown: words shown for each label.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    num_frequent: int = Field(default=5000, ge=10)
    num_mined: int = Field(default=200, ge=0)
    num_likely: int = Field(default=100, ge=2)
    min_consistency: float = Field(default=0.55, ge=0.5, le=1)
    num_shown: int = Field(default=8, ge=1)


@dataclass(frozen=True)
class FoundLabels:
    """What the search found.

    Args:
        labels: names in order.
        chosen: one word for each.
        ranked: candidates of each label, the best first.
        accuracy: of the chosen words with the hard template on the texts searched, prior out: too high for new texts.
        num_words: candidates that were scored.
        are_unequal: whether the chosen words differ in their number of tokens; they are scored by the sum over these.
    """

    labels: tuple[str, ...]
    chosen: tuple[FoundWord, ...]
    ranked: tuple[tuple[FoundWord, ...], ...]
    accuracy: float
    num_words: int
    are_unequal: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "labels": {name: [one.word] for name, one in zip(self.labels, self.chosen, strict=True)},
            **({"length": "sum"} if self.are_unequal else {}),
            "accuracy_on_searched_rows": self.accuracy,
            "num_words": self.num_words,
            "candidates": {
                name: [one.to_dict() for one in words] for name, words in zip(self.labels, self.ranked, strict=True)
            },
        }

    def to_yaml(self) -> str:
        """`labels:` for a recipe, with the runners-up and their figures as remarks, and `length:` where that matters."""
        lines = ["length: sum", "labels:"] if self.are_unequal else ["labels:"]
        for name, word, others in zip(self.labels, self.chosen, self.ranked, strict=True):
            entry = yaml.safe_dump({name: [word.word]}, allow_unicode=True, default_flow_style=None, width=200).strip()
            lines.append(f"  {entry}  # {_figures(word)}")
            rest = ", ".join(f"{one.word} ({_figures(one)})" for one in others if one.word != word.word)
            lines.append(f"  # or: {rest}" if rest else "  # no other word")
        return "\n".join(lines) + "\n"


def search_labels(recipe: Recipe, settings: SearchSettings | None = None) -> FoundLabels:
    """Finds label words on a recipe's training rows.

    Args:
        recipe: the words of its labels are not looked at.
        settings: how far to look.

    Raises:
        RecipeError: another kind of task.
        TemplateError: text behind the answer slot of a causal model.
        VerbalizerError: a label for which no word stands out.
    """
    settings = settings or SearchSettings()
    if recipe.task != "classification":
        raise RecipeError(f"label words are for task: classification, not for {recipe.task}", where="task")
    examples = read_splits(recipe).train
    backbone = load_backbone(recipe.backbone, dtype=recipe.dtype, device=recipe.device, text_start=recipe.text_start)
    template = words_template(recipe, backbone)
    names = recipe.label_names()
    labels = torch.tensor([names.index(example.label or "") for example in examples])
    words, scores = _all_words(recipe, backbone, template, examples, settings)
    ranked = rank_words(
        scores,
        labels,
        list(words),
        num_classes=len(names),
        num_likely=settings.num_likely,
        min_consistency=settings.min_consistency,
    )
    end = (_END,) if backbone.kind == "encoder" else ()
    chosen, accuracy = assign_words(ranked, scores, labels, tokens=[(*ids, *end) for ids in words.values()])
    shown = tuple(tuple(candidates[: settings.num_shown]) for candidates in ranked)
    are_unequal = len({len(words[one.word]) for one in chosen}) > 1
    return FoundLabels(names, tuple(chosen), shown, accuracy, len(words), are_unequal)


def vocabulary_words(template: Template, tokens: Tokens, num_frequent: int, texts: Sequence[str]) -> dict[str, int]:
    """Vocabulary words in the texts' kind of script that are one token in the template's answer slot, with that token."""
    script = dominant_script(" ".join(texts))
    words: dict[str, int] = {}
    for index in tokens.frequent_words(len(tokens.tokenizer)):
        word = tokens.tokenizer.decode([index]).strip()
        if not word.isalpha() or word in words or dominant_script(word) != script:
            continue
        if len(words) == num_frequent:
            break
        ids = word_ids(word, template, tokens)
        if len(ids) == 1:
            words[word] = ids[0]
    return words


def word_ids(word: str, template: Template, tokens: Tokens) -> tuple[int, ...]:
    """A word's tokens in the template's answer slot; none where the tokenizer does not know it."""
    try:
        return Verbalizer({"": (word,)}).answers(template, tokens).ids[0]
    except VerbalizerError:
        return ()


def mined_words(texts: Sequence[str], num_mined: int) -> list[str]:
    """Runs of two to four letters that occur most often in texts without spaces; the longer one where both always do."""
    counts: Counter[str] = Counter()
    for text in texts:
        runs = {text[at : at + size] for size in range(2, _LONGEST_MINED + 1) for at in range(len(text) - size + 1)}
        counts.update(run for run in runs if run.isalpha() and not run.isascii() and dominant_script(run) == "unspaced")
    often = {run: count for run, count in counts.items() if count > 1}
    inner = {part for run, count in often.items() for part in (run[:-1], run[1:]) if len(part) > 1 and often.get(part) == count}
    return sorted((run for run in often if run not in inner), key=lambda run: (-often[run], run))[:num_mined]


def words_template(recipe: Recipe, backbone: Backbone) -> Template:
    """The hard template in whose slot words of the whole vocabulary are scored.

    Raises:
        TemplateError: several answer slots, or text behind that of a causal model, which no word alone in it would see.
    """
    template = recipe.parsed_template().without_soft()
    if template.num_masks > 1:
        raise TemplateError("words are looked for in one answer slot", where="template", fix="keep one {mask}")
    if backbone.kind == "decoder" and template.after_mask():
        what = "words are scored where the text ends, so what stands behind {mask} is not seen on a causal model"
        raise TemplateError(what, where="template", fix="write {mask} last")
    return template


def _all_words(
    recipe: Recipe, backbone: Backbone, template: Template, examples: Sequence[Example], settings: SearchSettings
) -> tuple[dict[str, tuple[int, ...]], Tensor]:
    """Candidates with their tokens, and log P(w | x) of each on each text [N, W]."""
    texts = [value for example in examples for value in example.fields.values() if isinstance(value, str)]
    single = vocabulary_words(template, backbone.tokens, settings.num_frequent, texts)
    mined = {word: word_ids(word, template, backbone.tokens) for word in mined_words(texts, settings.num_mined)}
    several = {word: ids for word, ids in mined.items() if len(ids) > 1}
    anchor = list(single)[:2]
    if len(anchor) < 2:
        raise VerbalizerError("the vocabulary has no whole words for this template", where="template")
    model = PromptModel.build(
        backbone=backbone,
        template=template,
        labels={"0": [anchor[0]], "1": [anchor[1]]},
        method="hard",
        max_length=recipe.max_length,
    )
    parts = [vocabulary_scores(model, examples, list(single.values()))]
    words: dict[str, tuple[int, ...]] = {word: (index,) for word, index in single.items()}
    for group in _prefix_free(list(several)):
        parts.append(_several_scores(recipe, backbone, template, examples, group))
        words |= {word: several[word] for word in group}
    return words, torch.cat(parts, 1)


def vocabulary_scores(model: PromptModel, examples: Sequence[Example], ids: Sequence[int]) -> Tensor:
    """log P(token | x) of single tokens at the answer slot of each text, over the whole vocabulary [N, W].

    Args:
        model: with a hard template.
        examples: the texts.
        ids: the tokens.
    """
    rows = model.prepare(examples)
    out = torch.zeros(len(rows), len(ids))
    with torch.no_grad():
        for batch in model.batches(rows, None):
            states = model.backbone.read(batch.live, model.prompt(), batch.reads, batch.contexts, batch.decoder)
            values = torch.log_softmax(model.logits(states, None).float(), -1)
            out[list(batch.index)] = values[:, list(ids)].cpu()
    return out


def _several_scores(
    recipe: Recipe, backbone: Backbone, template: Template, examples: Sequence[Example], words: Sequence[str]
) -> Tensor:
    """log P(w | x) of words of several tokens, each the sum over its tokens."""
    model = PromptModel.build(
        backbone=backbone,
        template=template,
        labels=Verbalizer({word: (word,) for word in words}, length="sum"),
        method="hard",
        max_length=recipe.max_length,
        fill=recipe.fill,
    )
    return model.scores(model.prepare(examples))


def _prefix_free(words: Sequence[str]) -> list[list[str]]:
    """Words in groups of two or more in which none begins another."""
    groups: list[list[str]] = []
    for word in words:
        for group in groups:
            if not any(word.startswith(one) or one.startswith(word) for one in group):
                group.append(word)
                break
        else:
            groups.append([word])
    return [group for group in groups if len(group) > 1]


def _figures(one: FoundWord) -> str:
    return f"lift {one.lift:.2f}, consistency {one.consistency:.2f}"
