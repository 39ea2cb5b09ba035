"""Extractive question answering on every kind of backbone: what is read and learned, null answers, refusals, metrics."""

import json
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from ptune.data import Example, read_answers
from ptune.errors import BackboneError, DataError, TemplateError
from ptune.inputs import lay_out_places
from ptune.model import QaModel, QaPrediction
from ptune.model.qa_rows import BatchSpans, FoundAnswer
from tiny import tiny_backbone, tiny_model, tiny_tokenizer

KINDS = ["bert", "roberta", "gpt2", "gemma3", "qwen3", "t5", "bart"]
METHODS: dict[str, Any] = {
    "hard": "hard",
    "prompt-tuning": {"name": "prompt-tuning", "num_tokens": 3},
    "prompt-front": {"name": "prompt-tuning", "num_tokens": 3, "placement": "front"},
    "p-tuning": "p-tuning",
    "p-tuning-v2": {"name": "p-tuning-v2", "num_tokens": 3},
}
TEXT = "The film was great , a disappointing story and a great cast ."
CHINESE = "这部电影很好，我很喜欢。"


def row(context: str, question: str, *answers: str, **fields: Any) -> Example:
    held = {"text": list(answers), "answer_start": [context.index(answer) for answer in answers]}
    return Example({"context": context, "question": question, "answers": json.dumps(held), **fields}, where="row 1")


ROWS = [
    row(TEXT, "What was great ?", "The film"),
    row(TEXT, "What ?", "disappointing story", "story"),
    row("It was bad .", "What was good ?"),
    row(CHINESE, "什么 好", "电影"),
]


def build(kind: str, method: str = "p-tuning-v2", **changes: Any) -> QaModel:
    words = {"backbone": tiny_backbone(kind), "method": METHODS[method], "examples": ROWS, **changes}
    model = QaModel.build(**words)
    with torch.no_grad():
        model.head.linear.weight.mul_(20)
    return model


def scores_of(model: QaModel, examples: list[Example], batch_size: int | None = None) -> list[Tensor]:
    prepared, out = model.prepare(examples), {}
    with torch.no_grad():
        for batch in model.batches(prepared, batch_size):
            table = model(batch).scores
            for place, number in enumerate(batch.index):
                out[number] = table[:, place, : len(prepared.places[number])]
    return [out[number] for number in range(len(prepared))]


def grid() -> list[tuple[str, str]]:
    return [*product(KINDS, ["hard", "prompt-tuning", "p-tuning-v2"]), ("bert", "prompt-front"), ("gpt2", "prompt-front")]


# -- what is read ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["hard", "prompt-tuning", "prompt-front"])
@pytest.mark.parametrize("kind", ["bert", "roberta", "gpt2", "t5", "bart"])
def test_scores_are_those_of_plain_transformers(kind: str, method: str) -> None:
    """Learned tokens in front move every place on: the context's, and the null place ([CLS], else the last token)."""
    model = build(kind, method)
    tokenizer, plain, tokens = tiny_tokenizer(kind), tiny_model(kind), model.backbone.tokens
    question, context = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("What was great ?", TEXT))
    sep = list(tokens.special("<sep>"))
    table, prompt = plain.get_input_embeddings(), model.prompt().rows
    start, body = (table(torch.tensor(list(ids), dtype=torch.long)) for ids in (tokens.start_ids, [*question, *sep, *context]))
    end = table(torch.tensor(list(tokens.end_ids), dtype=torch.long))
    learned = body[:0] if prompt is None else prompt
    front = [learned, start] if method == "prompt-front" else [start, learned]
    embeds = torch.cat([*front, body, end])[None]
    settings: dict[str, Any] = {}
    if kind == "bert":
        types = [0] * (len(start) + len(learned) + len(question) + 1) + [1] * (len(context) + 1)
        settings["token_type_ids"] = torch.tensor([types])
    encoder = plain.get_encoder() if plain.config.is_encoder_decoder else plain.base_model
    mask = torch.ones(embeds.shape[:2], dtype=torch.long)
    states = encoder(inputs_embeds=embeds, attention_mask=mask, **settings).last_hidden_state[0]
    first = len(start) + len(learned) + len(question) + 1
    null = (len(learned) if method == "prompt-front" else 0) if kind in ("bert", "roberta") else len(states) - 1
    texts = [(TEXT)[a:b].strip() for a, b in tokens.spans(TEXT)[1]]
    places = [null, *(first + at for at, text in enumerate(texts) if text)]
    read = torch.nn.functional.layer_norm(states[places], states.shape[-1:])
    scores = read @ model.head.linear.weight.T + model.head.linear.bias
    expected = torch.stack([torch.cat([scores[:1, 2], scores[1:, which]]) for which in (0, 1)])
    torch.testing.assert_close(scores_of(model, ROWS[:1])[0], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("kind", "method"), grid())
def test_batches_and_padding_change_nothing(kind: str, method: str) -> None:
    model = build(kind, method)
    alone, together = scores_of(model, ROWS, batch_size=1), scores_of(model, ROWS, batch_size=4)
    prepared = model.prepare(ROWS)
    tokens, has_types = model.backbone.tokens, model._has_types
    side = "right" if kind == "bart" else "left"  # BART numbers positions itself, from the left
    padded = lay_out_places(prepared.encoded, prepared.places, tokens, index=range(4), padding_side=side, has_types=has_types)
    column = torch.tensor([number for own in prepared.places for number in range(len(own))])
    left = model(BatchSpans(**vars(padded), column=column)).scores
    for number, (one, other) in enumerate(zip(alone, together, strict=True)):
        torch.testing.assert_close(other, one, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(left[:, number, : one.shape[1]], one, rtol=1e-5, atol=1e-5)
        assert bool((left[:, number, one.shape[1] :] == -torch.inf).all())


@pytest.mark.parametrize(("kind", "method"), grid())
def test_the_answer_is_learned_where_it_stands(kind: str, method: str) -> None:
    """Targets, after learned tokens and the question: the tokens at these columns are the answer's."""
    template = "{soft:2}{question}{soft:1}{sep}{context}" if method == "hard" else "{question}{sep}{context}"
    model = build(kind, "p-tuning" if method == "hard" else method, template=template)
    prepared = model.prepare(ROWS)
    for number, example in enumerate(ROWS):
        encoded, (begin, end) = prepared.encoded[number], prepared.targets[number]
        given = read_answers(example.fields["answers"], "")
        if not given:
            assert (begin, end) == (0, 0)
            continue
        first, last = prepared.places[number][begin], prepared.places[number][end]
        whole, shorter, later = (
            model.backbone.tokens.text(encoded.ids[a:b]).replace("##", "").replace(" ", "").lower()
            for a, b in ((first, last + 1), (first, last), (first + 1, last + 1))
        )
        wanted = given[0][0].replace(" ", "").lower()
        assert wanted in whole and wanted not in shorter and wanted not in later
        assert set(encoded.soft[first : last + 1]) == {-1}


@pytest.mark.parametrize(("kind", "method"), grid())
def test_a_step_reaches_the_prompt_and_the_head_alone(kind: str, method: str) -> None:
    model = build(kind, method)
    model(model.batch(model.prepare(ROWS), range(4))).loss.backward()
    learned = dict(model.named_parameters())
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in learned.values())
    assert all(name.startswith(("prompt.", "head.")) for name in learned)


def test_the_loss_is_that_of_both_ends() -> None:
    model = build("bert")
    prepared = model.prepare(ROWS)
    total = 0.0
    for scores, (begin, end) in zip(scores_of(model, ROWS), prepared.targets, strict=True):
        first, last = torch.log_softmax(scores, 1)
        total -= float(first[begin] + last[end]) / 2
    assert model(model.batch(prepared, range(4))).loss.item() == pytest.approx(total / 4, rel=1e-4)
    assert model.mean_loss(prepared) == pytest.approx(total / 4, rel=1e-4)


def test_a_window_without_the_whole_answer_learns_that_there_is_none() -> None:
    model = build("bert", max_length=24, doc_stride=4)
    example = row("film " * 30 + "great story " + "film " * 30, "What ?", "great story")
    prepared = model.prepare([example])
    held = [aim for aim in prepared.targets if aim != (0, 0)]
    assert len(prepared) >= 4 and 1 <= len(held) <= 2
    for number, aim in enumerate(prepared.targets):
        if aim != (0, 0):
            pieces = [prepared.encoded[number].ids[prepared.places[number][at]] for at in aim]
            assert model.backbone.tokens.show(pieces)[0] == "great"


# -- predictions -----------------------------------------------------------------------------------------------------


def test_predictions_are_cut_from_the_context() -> None:
    model = build("roberta")
    context = " \n The  film was  great .\u3000"
    found = model.predict([Example({"context": context, "question": "What"})])[0]
    assert found.n_best and found.text == context[found.start : found.end]
    for one, share in found.n_best:
        assert one.text == context[one.start : one.end] == one.text.strip() and 0 < share < 1
    assert len({(one.start, one.end) for one, _ in found.n_best}) == len(found.n_best) == 5
    assert [one.score for one, _ in found.n_best] == sorted((one.score for one, _ in found.n_best), reverse=True)


def test_an_empty_context_has_no_answer() -> None:
    found = build("bert").predict([Example({"context": "", "question": "What"})])[0]
    assert found.to_dict() == {"answer": "", "start": None, "end": None, "probability": 1.0, "n_best": []}
    assert str(found) == "(no answer)  1.00"


def test_no_answer_is_given_below_the_threshold_alone() -> None:
    spans = [FoundAnswer("a", 0, 1, 2.0), FoundAnswer("b", 1, 2, 1.0)]
    assert QaPrediction.of(spans, 5, 1.9).text == "a" and QaPrediction.of(spans, 5, 2.1).text == ""
    assert QaPrediction.of(spans, 5, None).text == "a"
    shares = torch.softmax(torch.tensor([2.0, 1.0, 2.1]), 0).tolist()
    assert QaPrediction.of(spans, 5, 2.1).probability == pytest.approx(shares[2])
    assert [share for _, share in QaPrediction.of(spans, 5, 2.1).n_best] == pytest.approx(shares[:2])
    assert QaPrediction.of(spans, 1, None).probability == 1.0


def test_no_answer_is_allowed_where_training_rows_have_none() -> None:
    backbone = tiny_backbone("bert")
    assert QaModel.build(backbone=backbone, examples=ROWS).may_abstain
    assert not QaModel.build(backbone=backbone, examples=ROWS[:2]).may_abstain
    assert QaModel.build(backbone=backbone, examples=ROWS[:2], no_answer=True).may_abstain
    assert not QaModel.build(backbone=backbone, examples=ROWS, no_answer=False).may_abstain


def test_the_threshold_is_chosen_on_validation_rows() -> None:
    model = build("bert")
    validation = model.prepare(ROWS)
    before = model.threshold
    model.settle(validation, None)
    assert model.threshold == before == 0.0
    model.settle(validation, validation)
    best = model.judge(ROWS).score
    for threshold in (-100.0, 0.0, 100.0):
        model.threshold = threshold
        assert model.judge(ROWS).score <= best + 1e-9
    assert model.facts() == {"no_answer_threshold": 100.0}
    assert model.looks(validation)[0].score == pytest.approx(best)


def test_chinese_answers_are_judged_by_their_rule() -> None:
    chinese, english = [ROWS[3]] * 2, ROWS[:2]
    model = build("gemma3")
    assert model.judge(chinese).rule == "cmrc" and model.judge(english).rule == "squad"
    assert model.judge(ROWS).num_answerable == 3


# -- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_kept_and_the_reason_is_given(kind: str) -> None:
    model = build(kind, "prompt-tuning")
    assert model.why_not_keep()
    if model.backbone.kind == "decoder":
        assert "what is learned stands in front of them" in model.why_not_keep()
    with pytest.raises(BackboneError, match="contexts cannot be kept"):
        model.prepare(ROWS, keep_context=True)


@pytest.mark.parametrize(
    ("template", "message"),
    [("{question}", r"no \{context\}"), ("{context}", r"no \{question\}"), ("{question}{context}{mask}", "mask")],
)
def test_templates_that_cannot_be_are_refused(template: str, message: str) -> None:
    with pytest.raises(TemplateError, match=message):
        QaModel.build(backbone=tiny_backbone("bert"), template=template)


def answered(answers: object, context: Any = TEXT) -> Example:
    text = answers if isinstance(answers, tuple) else json.dumps(answers)
    return Example({"context": context, "question": "What", "answers": text}, where="row 1")


@pytest.mark.parametrize(
    ("example", "message"),
    [
        (answered({"text": ["film"], "answer_start": [5]}), "'film' is said to begin at character 5, but it stands at 4"),
        (answered({"text": ["story "], "answer_start": [90]}), "it stands at"),
        (answered({"text": ["no such"], "answer_start": [0]}), "it stands nowhere"),
        (answered({"text": ["film"]}), "has no place"),
        (answered(("film",)), "has no place"),
        (answered({"text": ["film"], "answer_start": ["4"]}), "cannot be read"),
        (answered({"text": ["film"], "answer_start": [1, 2]}), "cannot be read"),
        (answered("film"), "cannot be read"),
        (answered({"text": ["film"], "answer_start": [4]}, context=("a", "b")), "the context is a list"),
    ],
)
def test_rows_that_do_not_fit_are_named(example: Example, message: str) -> None:
    with pytest.raises(DataError, match=f"row 1.*{message}"):
        QaModel.check_rows([example], columns={"answers": "answers"}, labels=(), is_training=True)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"text": ["a", "b"], "answer_start": [0, 3]}, (("a", 0), ("b", 3))),
        ([{"text": "a", "answer_start": 0}, {"text": "b"}], (("a", 0), ("b", None))),
        ({"text": "a", "answer_start": 2}, (("a", 2),)),
        ({"text": [], "answer_start": []}, ()),
        ([], ()),
        (("a", "b"), (("a", None), ("b", None))),
        ((), ()),
    ],
)
def test_answers_are_read_in_either_spelling(given: object, expected: object) -> None:
    assert read_answers(answered(given).fields["answers"], "") == expected


def test_rows_without_places_can_be_judged_but_not_learned() -> None:
    model = build("bert")
    bare = answered(("The film", "film"))
    QaModel.check_rows([bare], columns={"answers": "answers"}, labels=(), is_training=False)
    prepared = model.prepare([bare])
    assert prepared.targets == (None,) and model(model.batch(prepared, [0])).loss is None
    assert 0 <= model.judge([bare]).score <= 1
    assert model.looks(model.prepare([bare, ROWS[0]]))[0].loss > 0
    with pytest.raises(DataError, match="no 'answers'"):
        model.judge([Example({"context": TEXT, "question": "What"}, where="row 1")])
