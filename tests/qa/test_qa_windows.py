"""Long contexts: planted answers are found wherever windows begin and end, each span once, never across learned tokens."""

from itertools import product
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ptune.data import Example
from ptune.inputs import Batch
from ptune.model import Outcome, QaModel
from ptune.model.qa_rows import BatchSpans
from ptune.readout import best_spans, best_threshold
from tiny import POSITIONS, tiny_backbone, tiny_tokenizer

KINDS = ["bert", "roberta", "gpt2", "gemma3", "t5"]
ENGLISH = ["The", "film", "was", "great", "disappointing", "service", "isn't", "3.5", ","]
CHINESE = ["这", "部", "电影", "很", "好", "，", "我", "不喜欢", "服务", "质量", "。"]
LONGEST = 6
OVERLAP = 24
METHODS = {
    "bert": ("{soft:2}{question}{soft:1}{sep}{context}{soft:1}", "p-tuning"),
    "roberta": ("{question}{sep}{context}", {"name": "prompt-tuning", "num_tokens": 4, "placement": "front"}),
    "gpt2": ("{question}\n{soft:3}{context}", "p-tuning"),
    "gemma3": ("Q: {question}\n{context}", {"name": "prompt-tuning", "num_tokens": 4}),
    "t5": ("{question}{sep}{context}", {"name": "p-tuning-v2", "num_tokens": 4}),
}


def planted(model: QaModel, batch: Batch) -> Outcome:
    """Scores by the text of the tokens that are read: high where a colon begins and an exclamation mark ends the answer."""
    assert isinstance(batch, BatchSpans) and batch.column is not None
    row, position = batch.reads.row, batch.reads.position
    assert bool((batch.live.soft[row, position] == -1).all())
    scores = torch.full((2, batch.num_examples, int(batch.column.max()) + 1), -torch.inf)
    pieces = model.backbone.tokens.show(batch.live.ids[row, position].tolist())
    for at, piece in enumerate(pieces):
        wanted = (":" in piece, "!" in piece) if batch.column[at] else (False, False)
        for which in (0, 1):
            scores[which, row[at], batch.column[at]] = 9.0 if wanted[which] else 0.0
    return Outcome(scores)


def expected(kind: str, context: str) -> tuple[int, int]:
    """The planted answer in whole tokens, by the tokenizer's own offsets on the whole context."""
    offsets = tiny_tokenizer(kind)(context, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    first, last = context.index(":"), context.index("!")
    begin = next(start for start, end in offsets if start <= first < end)
    stop = next(end for start, end in reversed(offsets) if start <= last < end)
    text = context[begin:stop]
    return begin + len(text) - len(text.lstrip()), begin + len(text.rstrip())


def context_of(draw: Any, kind: str) -> str:
    """A context of up to six times the model's positions, with an answer of a few words at any place."""
    is_chinese = draw(st.booleans())
    words, space = (CHINESE, "") if is_chinese else (ENGLISH, " ")
    size = len(tiny_backbone(kind).tokens.ids(space.join(words))) / len(words)
    longest = int(LONGEST * POSITIONS / size)
    before = draw(st.lists(st.sampled_from(words), max_size=longest))
    inside = draw(st.lists(st.sampled_from(words), max_size=3))
    after = draw(st.lists(st.sampled_from(words), max_size=max(0, longest - len(before))))
    return draw(st.sampled_from(["", " ", "\n"])) + space.join([*before, ":", *inside, "!", *after])


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_planted_answers_are_found_in_contexts_six_times_too_long(kind: str, data: st.DataObject) -> None:
    template, method = METHODS[kind]
    model = QaModel.build(
        backbone=tiny_backbone(kind),
        template=template,
        method=method,
        max_length=POSITIONS - 4,
        doc_stride=OVERLAP,
        max_answer_tokens=OVERLAP,
    )
    context = context_of(data.draw, kind)
    begin, stop = expected(kind, context)
    assume(
        len(model.backbone.tokens.ids(context[begin:stop])) < OVERLAP
    )  # rare words are many tokens, more than an answer may have
    example = Example({"context": context, "question": data.draw(st.sampled_from(["What ?", "什么 好"]))})
    prepared = model.prepare([example])
    for number, window in enumerate(prepared.windows):
        encoded = prepared.encoded[number]
        assert len(encoded) <= POSITIONS - 4
        inside = range(window.at, window.place(window.end))
        assert all(encoded.soft[at] == -1 and encoded.owner[at] == "context" for at in inside)
    model.forward = planted.__get__(model)
    found = model.predict([example])[0]
    assert (found.start, found.end) == (begin, stop)
    assert found.text == context[found.start : found.end] and ":" in found.text and "!" in found.text
    assert found.n_best[0][0].score == 18.0
    assert all(one.score < 18.0 for one, _ in found.n_best[1:])


def test_a_context_can_be_six_times_longer_than_the_models_positions() -> None:
    model = QaModel.build(backbone=tiny_backbone("bert"), method="p-tuning-v2")
    tokens = tiny_backbone("bert").tokens
    context = "The film was great . " * 80
    assert len(tokens.ids(context)) >= LONGEST * POSITIONS
    prepared = model.prepare([Example({"context": context, "question": "What"})])
    assert len(prepared) > LONGEST
    assert model.predict([Example({"context": context, "question": "What"})])[0].text


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 90), st.integers(20, 40), st.integers(2, 12))
def test_each_span_up_to_the_overlap_is_found_exactly_once(num_words: int, max_length: int, overlap: int) -> None:
    model = QaModel.build(
        backbone=tiny_backbone("bert"),
        method="p-tuning-v2",
        max_length=max_length,
        doc_stride=overlap,
        max_answer_tokens=overlap,
    )
    prepared = model.prepare([Example({"context": "film " * num_words, "question": "a"})])
    spans: list[tuple[int, int]] = []
    for window, tokens in zip(prepared.windows, prepared.tokens, strict=True):
        is_own = torch.tensor([window.own_begin <= token < window.own_end for token in tokens])
        zeros = torch.zeros(len(tokens))
        found = best_spans(zeros, zeros, is_own, max_tokens=overlap, num=10_000)
        spans += [(tokens[first], tokens[last]) for first, last, _ in found]
    assert sorted(spans) == [(i, j) for i in range(num_words) for j in range(i, min(num_words, i + overlap))]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 9), st.integers(1, 9), st.integers(1, 50), st.integers(0, 1000))
def test_the_best_spans_are_those_of_all_pairs(length: int, max_tokens: int, num: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    start, end = torch.randn(2, length, generator=generator)
    is_own = torch.rand(length, generator=generator) > 0.3
    pairs = [
        (i, j, float(start[i] + end[j]))
        for i, j in product(range(length), repeat=2)
        if i <= j < i + max_tokens and is_own[(i + j) // 2]
    ]
    best = sorted(pairs, key=lambda pair: -pair[2])[:num]
    found = best_spans(start, end, is_own, max_tokens=max_tokens, num=num)
    assert [pair[:2] for pair in found] == [pair[:2] for pair in best]
    assert [pair[2] for pair in found] == pytest.approx([pair[2] for pair in best])


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(st.integers(-5, 5), st.integers(0, 20).map(lambda n: n / 20), st.booleans()), min_size=1, max_size=12)
)
def test_the_threshold_is_the_best_of_all(rows: list[tuple[int, float, bool]]) -> None:
    scores = [float(score) for score, _, _ in rows]
    worth = [0.0 if has_none else f1 for _, f1, has_none in rows]
    worth_of_none = [float(has_none) for _, _, has_none in rows]

    def total(threshold: float) -> float:
        return sum(none if score < threshold else one for score, one, none in zip(scores, worth, worth_of_none, strict=True))

    every = [-10.0, *(score + step for score in scores for step in (-0.5, 0.5)), 10.0]
    assert total(best_threshold(scores, worth, worth_of_none)) == pytest.approx(max(map(total, every)))


def test_the_threshold_stays_at_zero_where_that_is_as_good_as_any() -> None:
    assert best_threshold([2.0, -3.0], [1.0, 0.0], [0.0, 1.0]) == 0.0
    assert best_threshold([2.0, 4.0], [0.0, 1.0], [1.0, 0.0]) == 3.0
    assert best_threshold([2.0], [0.0], [1.0]) == 3.0
    assert best_threshold([-2.0], [1.0], [0.0]) == -3.0
