"""Label words of several tokens against brute force: one full sequence at a time through a plain Hugging Face model.

The other side of each comparison uses nothing of ptune's batching, layouts, attention or output layer: it takes the token ids
of a row, puts the word's tokens where the answer goes, calls the model (eager attention) on that one sequence and takes
log-softmax over the whole vocabulary.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from ptune.errors import VerbalizerError
from ptune.inputs import Encoded, FillOrder
from ptune.model import PromptModel
from ptune.readout import Verbalizer
from tiny import DECODERS, ENCODER_DECODERS, ENCODERS, EXAMPLES, KINDS, WORDS, example, tiny_backbone, tiny_model

TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}
MIXED_WORDS = ("great", "terrible", "sports news", "不喜欢", "积极", "mediocre")

CAUSAL_TEMPLATES = [
    "{text} It was{mask}",
    "{text}{soft:3} It was{mask}",
    "{soft:2} {text}{soft:3}{mask}",
    "{text} It was{mask} .",
    "{text} It was{mask}{soft:2} and good",
    "{soft:1} {text} It was{mask} at all{soft:2}",
    "{mask} : {text}",
]
MASKED_TEMPLATES = [
    "{text} It was{mask} .",
    "{text}{soft:3}{mask}",
    "{soft:2}{mask} news : {text}{soft:1}",
    "{mask}{sep}{text}",
]


class Plain:
    """The plain model of a kind, one sequence at a time."""

    def __init__(self, kind: str) -> None:
        self.model = tiny_model(kind)
        self.kind = kind

    @torch.no_grad()
    def log_probabilities(self, ids: Sequence[int], soft: Sequence[int], rows: Tensor | None, **arguments: Any) -> Tensor:
        """[S, V] of one sequence, in which token i is prompt row `soft[i]` where that is not negative."""
        vectors = [
            self.model.get_input_embeddings()(torch.tensor(token)) if row < 0 else rows[row]
            for token, row in zip(ids, soft, strict=True)
        ]
        return torch.log_softmax(self.model(inputs_embeds=torch.stack(vectors)[None], **arguments).logits[0], -1)


@cache
def plain(kind: str) -> Plain:
    return Plain(kind)


def segment_types(kind: str, ids: Sequence[int], num_at_end: int = 1) -> dict[str, Tensor]:
    """BERT's segments: everything behind the first separator inside the row is the second text."""
    if kind != "bert":
        return {}
    inside = list(ids)[: len(ids) - num_at_end]
    first = inside.index(3) + 1 if 3 in inside else len(ids)
    return {"token_type_ids": torch.tensor([[0] * first + [1] * (len(ids) - first)])}


def causal_score(kind: str, row: Encoded, word: Sequence[int], rows: Tensor | None) -> float:
    """log P(word and everything behind it that is a token | everything in front)."""
    ids = [*row.ids[: row.slot], *word, *row.ids[row.slot :]]
    soft = [*row.soft[: row.slot], *([-1] * len(word)), *row.soft[row.slot :]]
    table = plain(kind).log_probabilities(ids, soft, rows)
    return sum(float(table[at - 1, ids[at]]) for at in range(row.slot, len(ids)) if soft[at] < 0)


def filled_table(kind: str, row: Encoded, fill: Sequence[int], rows: Tensor | None) -> Tensor:
    """[k, V] log-probabilities at the answer's k places when they hold the tokens `fill`."""
    ids = [*row.ids[: row.slot], *fill, *row.ids[row.slot :]]
    soft = [*row.soft[: row.slot], *([-1] * len(fill)), *row.soft[row.slot :]]
    table = plain(kind).log_probabilities(ids, soft, rows, **segment_types(kind, ids))
    return table[row.slot : row.slot + len(fill)]


def masked_score(kind: str, row: Encoded, word: Sequence[int], rows: Tensor | None, order: FillOrder) -> float:
    """Schick & Schütze 2021: all masks at once, left to right, or the most confident one first."""
    mask = tiny_backbone(kind).tokens.tokenizer.mask_token_id
    fill = [mask] * len(word)
    if order == "parallel":
        table = filled_table(kind, row, fill, rows)
        return sum(float(table[at, token]) for at, token in enumerate(word))
    total, still_open = 0.0, list(range(len(word)))
    while still_open:
        table = filled_table(kind, row, fill, rows)
        best = still_open[0] if order == "chain" else max(still_open, key=lambda at: float(table[at, word[at]]))
        total += float(table[best, word[best]])
        fill[best] = word[best]
        still_open.remove(best)
    return total


def answered_score(kind: str, row: Encoded, word: Sequence[int], rows: Tensor | None) -> float:
    """log P(word | decoder start, encoder text with one sentinel or mask in the gap)."""
    tokenizer = tiny_backbone(kind).tokens.tokenizer
    if kind == "bart":
        gap, start = tokenizer.mask_token_id, [2, 0]  # </s> <s>, as BART's decoder begins
    else:
        gap = tokenizer.convert_tokens_to_ids("<extra_id_0>")
        start = [0, gap]  # <pad> <extra_id_0>, as T5 was trained to answer
    ids = [*row.ids[: row.slot], gap, *row.ids[row.slot :]]
    soft = [*row.soft[: row.slot], -1, *row.soft[row.slot :]]
    table = plain(kind).log_probabilities(ids, soft, rows, decoder_input_ids=torch.tensor([[*start, *word]]))
    return sum(float(table[len(start) - 1 + at, token]) for at, token in enumerate(word))


def brute_force(model: PromptModel, kind: str, row: Encoded, order: FillOrder = "parallel") -> Tensor:
    """[W] scores of all label words of one row."""
    rows = model.prompt().rows
    rows = None if rows is None else rows.detach()
    scores = []
    for word in model.answers.ids:
        if kind in DECODERS:
            scores.append(causal_score(kind, row, word, rows))
        elif kind in ENCODERS:
            scores.append(masked_score(kind, row, word, rows, order))
        else:
            scores.append(answered_score(kind, row, word, rows))
    return torch.tensor(scores)


def one_word_each(kind: str, template: str, words: Sequence[str], **settings: Any) -> PromptModel:
    """A model whose label scores are the word scores themselves; learned rows are drawn, not frozen words."""
    labels = Verbalizer.parse({word: word for word in words}, length="sum")
    method = {"name": "p-tuning", "init": "random"} if "{soft" in template else "hard"
    return PromptModel.build(backbone=tiny_backbone(kind), template=template, labels=labels, method=method, seed=5, **settings)


def check(model: PromptModel, kind: str, *, keep_context: bool = False, order: FillOrder = "parallel") -> None:
    prepared = model.prepare(EXAMPLES, keep_context=keep_context)
    with torch.no_grad():
        got = model(model.batch(prepared, range(len(EXAMPLES)))).scores
    expected = torch.stack([brute_force(model, kind, row, order) for row in prepared.encoded])
    torch.testing.assert_close(got, expected, **TOLERANCE)


@pytest.mark.parametrize("keep_context", [False, True], ids=["whole", "kept"])
@pytest.mark.parametrize("template", CAUSAL_TEMPLATES)
@pytest.mark.parametrize("kind", DECODERS)
def test_words_of_several_tokens_on_a_causal_model(kind: str, template: str, keep_context: bool) -> None:
    model = one_word_each(kind, template, MIXED_WORDS)
    assert model.answers.max_tokens > 1
    check(model, kind, keep_context=keep_context)


@pytest.mark.parametrize("template", CAUSAL_TEMPLATES)
@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_the_mean_is_over_all_tokens_that_are_scored(kind: str, template: str) -> None:
    """What stands behind the slot counts too, else longer words would gain by the text behind them."""
    model = one_word_each(kind, template, MIXED_WORDS)
    prepared = model.prepare(EXAMPLES)
    sums = model.scores(prepared)
    behind = torch.tensor([sum(at < 0 for at in row.soft[row.slot :]) for row in prepared.encoded])
    lengths = torch.tensor([len(word) for word in model.answers.ids])
    model.verbalizer = replace(model.verbalizer, length="mean")
    torch.testing.assert_close(model.scores(prepared), sums / (lengths + behind[:, None]), **TOLERANCE)


@pytest.mark.parametrize("order", ["parallel", "chain", "pet"])
@pytest.mark.parametrize("template", MASKED_TEMPLATES)
@pytest.mark.parametrize("kind", ENCODERS)
def test_words_of_several_tokens_on_a_masked_model(kind: str, template: str, order: FillOrder) -> None:
    model = one_word_each(kind, template, MIXED_WORDS, fill=order)
    assert model.answers.max_tokens > 1
    check(model, kind, order=order)


def test_the_three_orders_differ() -> None:
    """Otherwise the test above could pass with one of them for all."""
    scores = {}
    for order in ("parallel", "chain", "pet"):
        model = one_word_each("bert", MASKED_TEMPLATES[0], MIXED_WORDS, fill=order)
        scores[order] = model.scores(model.prepare(EXAMPLES))
    long = [i for i, word in enumerate(model.answers.ids) if len(word) > 2]
    assert long
    for first, second in (("parallel", "chain"), ("chain", "pet"), ("parallel", "pet")):
        assert (scores[first] - scores[second])[:, long].abs().max() > 1e-2


@pytest.mark.parametrize("template", MASKED_TEMPLATES[:3])
@pytest.mark.parametrize("kind", ENCODER_DECODERS)
def test_words_of_several_tokens_on_an_encoder_decoder(kind: str, template: str) -> None:
    model = one_word_each(kind, template, MIXED_WORDS)
    assert model.answers.max_tokens > 1
    check(model, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_single_tokens_are_scored_up_to_a_constant_per_row(kind: str) -> None:
    """W columns of the output layer are enough there: differences between words are those of the full softmax."""
    model = one_word_each(kind, "{text}{soft:2} It was{mask}", ["great", "good", "bad"])
    assert model.answers.single
    prepared = model.prepare(EXAMPLES)
    got = torch.log_softmax(model.scores(prepared), 1)
    expected = torch.log_softmax(torch.stack([brute_force(model, kind, row) for row in prepared.encoded]), 1)
    torch.testing.assert_close(got, expected, **TOLERANCE)


def test_a_terminator_is_scored_with_the_word() -> None:
    """With it a word may begin another."""
    with pytest.raises(VerbalizerError, match="beginning"):
        PromptModel.build(
            backbone=tiny_backbone("llama"),
            template="{text} It was{mask}",
            labels={"a": "good", "b": "good news"},
            method="hard",
        )
    labels = Verbalizer.parse({"a": "good", "b": "good news"}, length="sum", terminator=" .")
    model = PromptModel.build(backbone=tiny_backbone("llama"), template="{text} It was{mask}", labels=labels, method="hard")
    assert [model.backbone.tokens.tokenizer.decode(ids) for ids in model.answers.ids] == [" good .", " good news ."]
    check(model, "llama")


@pytest.mark.parametrize("kind", ["bert", "gpt2", "t5"])
def test_more_places_than_one_chunk(kind: str) -> None:
    """Places are scored 64 at a time; a large batch must give what small ones give."""
    model = one_word_each(kind, "{text}{soft:2} It was{mask} .", MIXED_WORDS)
    prepared = model.prepare(EXAMPLES * 5)
    with torch.no_grad():
        batch = model.batch(prepared, range(25))
        got = model(batch).scores
    assert len(batch.reads.row) > 128
    expected = torch.stack([brute_force(model, kind, row) for row in prepared.encoded[:5]])
    torch.testing.assert_close(got, expected.repeat(5, 1), **TOLERANCE)


TEMPLATE_OF_ANY_KIND = ["{text} It was{mask} .", "{text}{soft:2} It was{mask}", "{soft:1} {text}{soft:2}{mask}"]


@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@pytest.mark.parametrize("kind", KINDS)
@given(
    words=st.lists(st.sampled_from(WORDS), min_size=2, max_size=5, unique=True),
    template=st.sampled_from(TEMPLATE_OF_ANY_KIND),
    order=st.sampled_from(["parallel", "chain", "pet"]),
    texts=st.lists(st.text(alphabet="aegorst 好很不，喜欢.", max_size=12), min_size=1, max_size=3),
)
def test_random_words(kind: str, words: list[str], template: str, order: FillOrder, texts: list[str]) -> None:
    try:
        model = one_word_each(kind, template, words, fill=order)
    except VerbalizerError as error:
        assume("beginning" not in str(error) and "same tokens" not in str(error))
        raise
    prepared = model.prepare([example(text) for text in texts])
    with torch.no_grad():
        got = model(model.batch(prepared, range(len(texts)))).scores
    expected = torch.stack([brute_force(model, kind, row, order) for row in prepared.encoded])
    if model.answers.single:
        got, expected = got.log_softmax(1), expected.log_softmax(1)
    torch.testing.assert_close(got, expected, **TOLERANCE)
