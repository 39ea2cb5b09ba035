"""Tagging on every kind of backbone: what is read, against plain transformers; batches, padding, windows, refusals."""

from itertools import pairwise, product
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ptune.data import Example, tag_names, tag_spans, transitions
from ptune.errors import BackboneError, DataError, RecipeError, TemplateError
from ptune.inputs import Batch, lay_out_places
from ptune.model import Outcome, TagModel
from ptune.model.tag_rows import IGNORED, PreparedTags
from ptune.readout import best_tags
from tiny import build_backbone, tiny_backbone, tiny_model, tiny_tokenizer

KINDS = ["bert", "roberta", "gpt2", "gemma3", "qwen3", "t5", "bart"]
CAUSAL = ["gpt2", "gemma3", "qwen3"]
METHODS: dict[str, Any] = {
    "hard": "hard",
    "prompt-tuning": {"name": "prompt-tuning", "num_tokens": 3},
    "prompt-front": {"name": "prompt-tuning", "num_tokens": 3, "placement": "front"},
    "p-tuning": "p-tuning",
    "p-tuning-v2": {"name": "p-tuning-v2", "num_tokens": 3},
    "prefix-tuning": {"name": "prefix-tuning", "num_tokens": 3},
}


def row(words: list[str], tags: list[str] | None = None, **fields: Any) -> Example:
    return Example({"tokens": tuple(words), **fields, **({} if tags is None else {"tags": tuple(tags)})}, where="row 1")


ROWS = [
    row(["The", "disappointing", "film", "with", "Good", "Music", "."], ["O", "O", "O", "O", "B-PER", "I-PER", "O"]),
    row(["bad"], ["O"]),
    row(list("这部电影很好，我很喜欢。"), ["O", "O", "B-X", "I-X", *["O"] * 8]),
    row(["Rather", "mediocre", "acting"], ["B-X", "O", "B-PER"]),
]


def build(kind: str, method: str = "p-tuning-v2", **changes: Any) -> TagModel:
    words = {"backbone": tiny_backbone(kind), "method": METHODS[method], "examples": ROWS, **changes}
    model = TagModel.build(**words)
    with torch.no_grad():  # so that scores differ visibly
        model.head.linear.weight.mul_(20)
    return model


def grid() -> list[tuple[str, str]]:
    everywhere = product(KINDS, ["hard", "prompt-tuning", "p-tuning-v2"])
    return [*everywhere, *product(["bert", "gpt2"], ["prompt-front", "prefix-tuning"])]


# -- what is read ----------------------------------------------------------------------------------------------------


def hand_made(kind: str, model: TagModel, words: list[str], is_front: bool) -> Tensor:
    """Tag scores by plain transformers: learned rows before or behind the start token, states at the words' first tokens."""
    tokenizer, plain = tiny_tokenizer(kind), tiny_model(kind)
    text = "".join(words) if len(words) > 1 and len(words[0]) == 1 else " ".join(words)
    coded = tokenizer(text, return_offsets_mapping=True, add_special_tokens=False)
    tokens, prompt = model.backbone.tokens, model.prompt().rows
    table = plain.get_input_embeddings()
    start, body, end = (
        table(torch.tensor(list(ids), dtype=torch.long)) for ids in (tokens.start_ids, coded["input_ids"], tokens.end_ids)
    )
    rows = body[:0] if prompt is None else prompt
    embeds = torch.cat([*((rows, start) if is_front else (start, rows)), body, end])[None]
    encoder = plain.get_encoder() if plain.config.is_encoder_decoder else plain.base_model
    states = encoder(inputs_embeds=embeds, attention_mask=torch.ones(embeds.shape[:2], dtype=torch.long)).last_hidden_state[0]
    places, at = [], 0
    for word in words:
        at = text.index(word, at)
        place = next(k for k, (a, b) in enumerate(coded["offset_mapping"]) if a <= at < b)
        places += [place] if place not in places else []  # one token for two characters reads the first
        at += len(word)
    read = states[torch.tensor(places) + len(start) + len(rows)]
    linear = model.head.linear
    return torch.log_softmax(torch.nn.functional.layer_norm(read, read.shape[-1:]) @ linear.weight.T + linear.bias, 1)


@pytest.mark.parametrize("method", ["hard", "prompt-tuning", "prompt-front"])
@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_those_of_plain_transformers(kind: str, method: str) -> None:
    """Positions right after insertion: learned tokens move every word on, and none of them is read."""
    model = build(kind, method)
    got = model.log_probabilities(model.prepare(ROWS))
    for example, scores in zip(ROWS, got, strict=True):
        words = list(example.fields["tokens"])
        torch.testing.assert_close(scores, hand_made(kind, model, words, method == "prompt-front"), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("kind", "method"), grid())
def test_labels_stand_on_first_tokens_alone(kind: str, method: str) -> None:
    """As many labels as words that have a token of their own; -100 on learned, special and template tokens."""
    template = "{soft:2}Words : {tokens}{soft:2} ." if method == "hard" else "Words : {tokens} ."
    model = build(kind, "p-tuning" if method == "hard" else method, template=template)
    prepared = model.prepare(ROWS)
    for number, example in enumerate(ROWS):
        labels, encoded = prepared.token_labels(number), prepared.encoded[number]
        assert len(labels) == len(encoded)
        assert sum(label != IGNORED for label in labels) == len(prepared.rows[number].units)
        for label, owner, soft in zip(labels, encoded.owner, encoded.soft, strict=True):
            assert label == IGNORED or (owner == "tokens" and soft == -1)
        pieces = model.backbone.tokens.show([encoded.ids[at] for at in prepared.places[number]])
        assert len(pieces) <= len(example.fields["tokens"])


@pytest.mark.parametrize(("kind", "method"), grid())
def test_batches_and_padding_change_nothing(kind: str, method: str) -> None:
    model = build(kind, method)
    prepared = model.prepare(ROWS)
    alone = model.log_probabilities(prepared, batch_size=1)
    together = model.log_probabilities(prepared, batch_size=4)
    padded = alone if kind == "bart" else _left_padded(model, prepared)  # BART numbers positions itself, from the left
    with_grad = model(model.batch(prepared, range(4))).scores  # without the beginning that inference keeps
    for one, other, left in zip(alone, together, padded, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(left, one, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(torch.log_softmax(with_grad, 1), torch.cat(alone), rtol=1e-5, atol=1e-5)
    assert float(torch.cat(alone).std()) > 0.1


def _left_padded(model: TagModel, prepared: PreparedTags) -> tuple[Tensor, ...]:
    tokens, has_types = model.backbone.tokens, model._has_types
    batch = lay_out_places(prepared.encoded, prepared.places, tokens, index=range(4), padding_side="left", has_types=has_types)
    assert not bool(batch.live.mask[1, 0])
    states = model.backbone.read(batch.live, model.prompt(), batch.reads)
    return torch.log_softmax(model.head.score(states), 1).split([len(own) for own in prepared.places])


@pytest.mark.parametrize(("kind", "method"), grid())
def test_a_step_reaches_the_prompt_and_the_head_alone(kind: str, method: str) -> None:
    model = build(kind, method)
    learned, batch = dict(model.named_parameters()), model.batch(model.prepare(ROWS), range(4))
    for _ in range(2):  # the last layer of Prefix Tuning's MLP starts at zero
        model(batch).loss.backward()
        with torch.no_grad():
            for parameter in learned.values():
                parameter -= 0.01 * parameter.grad
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in learned.values())
    assert all(name.startswith(("prompt.", "head.")) for name in learned)
    assert all(parameter.grad is None for parameter in model.backbone.model.parameters())


def test_the_heads_rate_is_its_own_unless_it_leads() -> None:
    prompted, probe = build("bert"), build("bert", "hard", tune="task-head")
    assert [(group["name"], group["lr"]) for group in prompted.parameter_groups(0.5)] == [("prompt", 0.5), ("head", 3e-3)]
    assert [group["lr"] for group in probe.parameter_groups()] == [3e-3]
    assert [group["lr"] for group in probe.parameter_groups(0.5)] == [0.5]


def test_the_loss_is_the_mean_over_words() -> None:
    model = build("bert")
    prepared = model.prepare(ROWS)
    scores = torch.cat(model.log_probabilities(prepared))
    numbers = torch.tensor([target for own in prepared.targets for target in own])
    expected = -scores[torch.arange(len(numbers)), numbers].mean()
    torch.testing.assert_close(model(model.batch(prepared, range(4))).loss, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(model.looks(prepared)[0].loss, expected.item(), rtol=1e-5, atol=1e-5)


# -- tags and spans --------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 5), st.sampled_from(["IO", "BIO", "BIOES", "BILOU", "BMES"]), st.integers(0, 10_000))
def test_the_tag_path_is_the_best_of_all_allowed_ones(length: int, scheme: Any, seed: int) -> None:
    names = tag_names(["X"], scheme)
    allowed = transitions(names, scheme)
    scores = torch.randn(length, len(names), generator=torch.Generator().manual_seed(seed))

    def may(path: tuple[int, ...]) -> bool:
        ends = [len(names), *path, len(names)]
        return all(allowed[left][right] for left, right in pairwise(ends))

    paths = [path for path in product(range(len(names)), repeat=length) if may(path)]
    best = max(paths, key=lambda path: sum(float(scores[at, tag]) for at, tag in enumerate(path)))
    assert best_tags(scores, allowed) == list(best)


@pytest.mark.parametrize("scheme", ["BIO", "BIOES", "IO"])
def test_predicted_tags_follow_the_scheme(scheme: Any) -> None:
    model = build("gpt2", labels=["X", "PER"], scheme=scheme)
    allowed = {(a, b) for a, one in enumerate(transitions(model.tags, scheme)) for b, may in enumerate(one) if may}
    for prediction in model.predict(ROWS):
        ends = [len(model.tags), *(model.tags.index(tag) for tag in prediction.tags), len(model.tags)]
        assert set(pairwise(ends)) <= allowed
        assert len(prediction.tags) == len(prediction.words)


def planted(scores_of: dict[str, int]) -> Any:
    """A forward that gives each word its tag by the text of the token that is read: only the mapping is tested."""

    def forward(model: TagModel, batch: Batch) -> Outcome:
        ids = batch.live.ids[batch.reads.row, batch.reads.position]
        soft = batch.live.soft[batch.reads.row, batch.reads.position]
        assert bool((soft == -1).all())
        scores = torch.zeros(len(ids), len(model.tags))
        for at, index in enumerate(ids.tolist()):
            piece = model.backbone.tokens.show([index])[0].strip()
            scores[at, scores_of.get(piece, 0)] = 9.0
        return Outcome(scores)

    return forward


FILLERS = ["The", "film", "was", "disappointing", "，", "isn't", "service"]


@pytest.mark.parametrize("kind", ["bert", "gpt2", "gemma3"])
@settings(max_examples=25, deadline=None)
@given(words=st.lists(st.sampled_from([*FILLERS, ":", "!"]), min_size=1, max_size=150), overlap=st.integers(0, 12))
def test_planted_spans_are_found_in_texts_of_many_windows(kind: str, words: list[str], overlap: int) -> None:
    """A colon begins a span and an exclamation mark continues it, wherever windows begin and end."""
    model = TagModel.build(
        backbone=tiny_backbone(kind),
        template="Words : {tokens}{soft:2} ." if kind == "bert" else "{soft:2}Words : {tokens} .",
        method="p-tuning",
        labels=["X"],
        max_length=30,
        doc_stride=overlap,
        valid_tags=False,
    )
    tags = [{":": "B-X", "!": "I-X"}.get(word, "O") for word in words]
    model.forward = planted({":": 1, "!": 2}).__get__(model)
    found = model.predict([row(words)])[0]
    text = found.text
    assert [(span.start, span.end) for span in found.spans] == [
        (_start(words, span.start, text), _start(words, span.end - 1, text) + len(words[span.end - 1]))
        for span in tag_spans(tags)
    ]
    assert tag_spans(found.tags) == tag_spans(tags)


def _start(words: list[str], number: int, text: str) -> int:
    at = 0
    for word in words[:number]:
        at = text.index(word, at) + len(word)
    return text.index(words[number], at)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(["积", "极", "好", "消", "我"]), min_size=1, max_size=40))
def test_characters_that_share_a_token_share_its_span(characters: list[str]) -> None:
    """质量 is one token: where its first character begins a span, so does the second belong to it."""
    words = [{"积": "质", "极": "量"}.get(one, one) for one in characters]
    model = TagModel.build(backbone=tiny_backbone("gemma3"), method="p-tuning-v2", labels=["X"], max_length=24)
    model.forward = planted({"质量": 1, "质": 1}).__get__(model)
    found = model.predict([row(words)])[0]
    text = "".join(words)
    assert found.text == text or len(words) == 1
    for span in found.spans:
        assert span.text == text[span.start : span.end] in ("质", "质量")
        assert span.text == "质量" or text[span.start : span.start + 2] != "质量"
    assert sum(word == "质" for word in words) == len(found.spans)


def test_true_spans_that_lie_inside_a_token_are_counted() -> None:
    model = TagModel.build(backbone=tiny_backbone("gemma3"), labels=["X"])
    words = list("好质量好质量")
    prepared = model.prepare([row(words, ["O", "B-X", "I-X", "O", "O", "B-X"])])
    assert [(unit.begin, unit.end) for unit in prepared.rows[0].units] == [(0, 1), (1, 3), (3, 4), (4, 6)]
    assert [model.tags[tag] for tag in prepared.targets[0]] == ["O", "B-X", "O", "O"]
    model.settle(prepared, None)
    assert model.facts() == {"train_spans": 2, "train_spans_at_token_borders": 1}


@settings(max_examples=40, deadline=None)
@given(st.text(alphabet="ab 好，.\n\u3000王3", max_size=60))
def test_spans_of_plain_texts_are_cut_from_the_text(text: str) -> None:
    model = build("roberta", "hard", labels=["X", "Y"])
    found = model.predict([Example({"tokens": text})])[0]
    assert found.text == text and len(found.words) == len(found.tags)
    for span in found.spans:
        assert text[span.start : span.end] == span.text and span.text.strip() == span.text
        assert 0 < span.score <= 1
    assert [span.type for span in found.spans] == [span.type for span in tag_spans(found.tags)]
    assert str(found) == (", ".join(f"{one.type}: {one.text}" for one in found.spans) or "(nothing)")


def test_an_empty_text_is_a_row_too() -> None:
    model = build("bert")
    empty, other = model.predict([Example({"tokens": ""}), ROWS[0]])
    assert empty.tags == () and len(other.tags) == 7
    assert model(model.batch(model.prepare([row([], [])]), [0])).loss.item() == 0.0


@pytest.mark.parametrize("kind", CAUSAL)
def test_the_second_copy_has_read_what_follows(kind: str) -> None:
    once, twice = build(kind), build(kind, template="{tokens} {tokens}")
    short, changed = row(["The", "film", "was", "great"]), row(["The", "film", "was", "bad"])
    for model, sees in ((once, False), (twice, True)):
        one, other = model.log_probabilities(model.prepare([short, changed]))
        assert bool((one[0] - other[0]).abs().max() > 1e-3) == sees


def test_the_last_token_of_a_word_can_be_read() -> None:
    first, last = build("gpt2"), build("gpt2", word_piece="last")
    places = [model.prepare(ROWS[:1]).places[0] for model in (first, last)]
    assert all(a <= b for a, b in zip(*places, strict=True)) and places[0] != places[1]


def test_the_scheme_and_the_types_come_from_the_rows() -> None:
    bioes = [row(["a", "b", "c"], ["B-X", "E-X", "S-Y"])]
    assert TagModel.build(backbone=tiny_backbone("bert"), examples=bioes).tags == (
        "O", "B-X", "I-X", "E-X", "S-X", "B-Y", "I-Y", "E-Y", "S-Y",
    )  # fmt: skip
    old = [row(["a", "b", "c"], ["I-X", "O", "I-X"]), row(["a", "b"], ["I-X", "B-X"])]
    model = TagModel.build(backbone=tiny_backbone("bert"), examples=old)
    assert model.scheme == "BIO"
    assert [model.tags[tag] for tag in model.prepare(old).targets[1]] == ["B-X", "B-X"]
    assert TagModel.build(backbone=tiny_backbone("bert"), examples=old, labels=["X", "Z"], scheme="IO").tags == (
        "O",
        "I-X",
        "I-Z",
    )


# -- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_kept_and_the_reason_is_given(kind: str) -> None:
    model = build(kind)
    reason = model.why_not_keep()
    assert reason
    if model.backbone.kind == "decoder":
        assert "stand in front of the whole text" in reason
        assert "the text's own tokens are read" in build(kind, "hard").why_not_keep()
    with pytest.raises(BackboneError, match="contexts cannot be kept"):
        model.prepare(ROWS, keep_context=True)


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("bert", {"template": "{text}"}, r"no \{tokens\}"),
        ("bert", {"template": "{tokens}{mask}"}, r"has \{mask\}"),
        ("bert", {"template": "{tokens max=9}"}, "read in windows"),
        ("gpt2", {"template": "{tokens}{soft:3}", "method": "p-tuning"}, "see nothing of what follows"),
        ("gpt2", {"method": {"name": "p-tuning-v2", "placement": "behind"}}, "see nothing of what follows"),
        ("bert", {"method": {"name": "p-tuning-v2", "num_tokens": 60}}, "leaves no room"),
    ],
)
def test_templates_that_cannot_be_are_refused(kind: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(TemplateError, match=message):
        TagModel.build(backbone=tiny_backbone(kind), labels=["X"], **settings).prepare(ROWS)


def test_what_cannot_be_trained_is_refused() -> None:
    with pytest.raises(RecipeError, match="no types of spans"):
        TagModel.build(backbone=tiny_backbone("bert"))
    with pytest.raises(RecipeError, match="no output layer"):
        TagModel.build(backbone=build_backbone("bert"), labels=["X"], tune="lm-head")


@pytest.mark.parametrize(
    ("example", "labels", "message"),
    [
        (row(["a", "b"], ["O"]), (), "2 words and 1 tags"),
        (Example({"tokens": "a b", "tags": ("O", "O")}, where="row 1"), (), "'tokens' is no list"),
        (Example({"tokens": ("a",), "tags": "O"}, where="row 1"), (), "'tags' is no list"),
        (row(["a"], ["B-PRE"]), ("PER", "LOC"), "a type 'PRE' that is no label.*did you mean 'PER'"),
        (row(["a"], ["O"]), (), "no training row has a tag but O"),
    ],
)
def test_rows_that_do_not_fit_are_named(example: Example, labels: tuple[str, ...], message: str) -> None:
    with pytest.raises(DataError, match=f"row 1.*{message}"):
        TagModel.check_rows([example], columns={"tags": "tags"}, labels=labels, is_training=True)


def test_rows_without_tags_are_predicted_but_not_judged() -> None:
    model = build("bert")
    assert len(model.predict([row(["a", "b"])])[0].tags) == 2
    with pytest.raises(DataError, match="row 1: the row has no 'tags'"):
        model.judge([row(["a", "b"])])
    with pytest.raises(DataError, match="no 'tokens'"):
        model.predict([Example({"text": "a"}, where="row 1")])
