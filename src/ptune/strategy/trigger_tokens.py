"""Trigger tokens: the words in front of the answer exchanged, token by token, for those that the gradient points to.

In: a template with words between text and answer, labelled rows, and what a template is worth on them. Out: all templates that
were tried. The gradient is that of the loss on these words' embeddings, which the usual model gives when they are learned
tokens that start from themselves. Source: Shin et al. 2020 (AutoPrompt), section 2.2: candidates are the k tokens w with the
highest -e_w . gradient, then the best by trying. Deviations: triggers start from the template's words, only whole words of the
texts' script are candidates, all positions are tried in each round, and what counts is the text as it is tokenised again.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ptune.backbone import Backbone
from ptune.data import Example
from ptune.errors import TemplateError
from ptune.inputs import FillOrder
from ptune.model import PromptModel
from ptune.readout import Verbalizer
from ptune.template import Soft, Template, Text, dominant_script, learn_words

__all__ = ["trigger_templates", "word_gradients"]

Value = tuple[float, float]


def trigger_templates(
    template: Template,
    value: Callable[[Template], Value | None],
    examples: Sequence[Example],
    labels: Verbalizer,
    backbone: Backbone,
    *,
    max_length: int | None,
    rounds: int,
    tried: int,
    num_frequent: int,
    fill: FillOrder = "parallel",
) -> list[Template]:
    """Exchanges one token at a time, keeps the best, goes on from there; ends where nothing gets better.

    Args:
        template: hard words only; without words in front of the answer there is nothing to exchange.
        value: what a template is worth, more is better; None for one that cannot be used.
        examples: labelled rows that the gradient is taken on.
        labels: label words.
        backbone: frozen.
        max_length, fill: as in a recipe.
        rounds: how often at most.
        tried: exchanges that are looked at in each round.
        num_frequent: words of the vocabulary to choose among, the most frequent first.
    """
    words = _whole_words(backbone, examples, num_frequent)
    if not words:
        return []
    best, best_value = template, value(template)
    found: dict[str, Template] = {}
    for _ in range(rounds):
        try:
            soft = learn_words(best)
        except TemplateError:
            break
        ids, gradients = word_gradients(soft, examples, labels, backbone, max_length=max_length, fill=fill)
        before = best
        for position, word in _steepest(backbone, words, ids, gradients, tried):
            trial = _exchanged(soft, backbone, position, word)
            worth = None if trial is None or trial == before else value(trial)
            if trial is None or worth is None:
                continue
            found[str(trial)] = trial
            if best_value is None or worth > best_value:
                best, best_value = trial, worth
        if best == before:
            break
    return [trial for trial in found.values() if trial != template]


def word_gradients(
    template: Template,
    examples: Sequence[Example],
    labels: Verbalizer,
    backbone: Backbone,
    *,
    max_length: int | None,
    fill: FillOrder = "parallel",
) -> tuple[tuple[int, ...], Float[Tensor, "P E"]]:
    """The tokens of a template's learned words, and the gradient of the mean loss on the embedding of each.

    Args:
        template: with words as learned tokens, see `learn_words`.
        examples: labelled rows; their prior is taken out first.
        labels, backbone, max_length, fill: as above.
    """
    model = PromptModel.build(
        backbone=backbone, template=template, labels=labels, method="p-tuning", max_length=max_length, fill=fill
    )
    rows = model.prepare(examples)
    model.take_out_prior(rows)
    (learned,) = model.prompt.parameters()
    gradient = torch.zeros_like(learned)
    for batch in model.batches(rows, None):
        loss = model(batch).loss
        assert loss is not None
        gradient += torch.autograd.grad(loss * len(batch.index) / len(rows), learned)[0]
    return tuple(int(index or 0) for index in model.layout.init_ids), gradient.float().cpu()


def _steepest(
    backbone: Backbone, words: Sequence[int], ids: Sequence[int], gradients: Float[Tensor, "P E"], tried: int
) -> list[tuple[int, int]]:
    """(position, token) whose exchange lowers the loss most, to first order."""
    with torch.no_grad():
        table = backbone.embed(torch.tensor(list(words))).float().cpu()
        own = backbone.embed(torch.tensor(list(ids))).float().cpu()
    drop_PW = (own * gradients).sum(1, keepdim=True) - gradients @ table.T
    order = drop_PW.flatten().argsort(descending=True, stable=True).tolist()
    pairs = [(at // len(words), words[at % len(words)]) for at in order]
    return [(position, word) for position, word in pairs if ids[position] != word][:tried]


def _exchanged(template: Template, backbone: Backbone, position: int, word: int) -> Template | None:
    """The hard template with another token at one place of its learned words; None where that leaves no text."""
    nodes = list(template.nodes)
    at = 0
    for index, node in enumerate(nodes):
        if not isinstance(node, Soft) or node.words is None:
            continue
        ids = list(backbone.tokens.ids(node.words))
        if at <= position < at + len(ids):
            ids[position - at] = word
            space = node.words[: len(node.words) - len(node.words.lstrip())]
            nodes[index] = Text(space + backbone.tokens.text(ids).strip())
        at += len(ids)
    try:
        return Template(tuple(nodes)).without_soft()
    except TemplateError:
        return None


def _whole_words(backbone: Backbone, examples: Sequence[Example], num_frequent: int) -> list[int]:
    """Tokens that are words of the texts' script, rather than pieces of some."""
    texts = " ".join(value for example in examples for value in example.fields.values() if isinstance(value, str))
    script, tokens = dominant_script(texts), backbone.tokens
    space = "" if script == "unspaced" else " "
    found: list[int] = []
    for index in tokens.frequent_words(len(tokens.tokenizer)):
        word = tokens.tokenizer.decode([index]).strip()
        if dominant_script(word) == script and tokens.ids(space + word) == (index,):
            found.append(index)
        if len(found) == num_frequent:
            break
    return found
