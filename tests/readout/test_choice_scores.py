"""Choices that differ from row to row against brute force: one full sequence at a time through a plain Hugging Face model."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_brute_force import answered_score, causal_score, masked_score, plain, segment_types
from torch import Tensor

from ptune.data import Example
from ptune.errors import PtuneError
from ptune.inputs import AnswerWords
from ptune.model.choice_model import ChoiceModel
from ptune.readout import choice_scores, split_scores
from tiny import DECODERS, ENCODER_DECODERS, ENCODERS, KINDS, WIDTH, tiny_backbone

TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}
ROWS = [
    Example({"text": "The film was great", "choices": ("great", "terrible", "sports news")}),
    Example({"text": "bad", "choices": ("不喜欢", "good", "a good day", "great")}),
    Example({"text": "What a good day , the service is great", "choices": ("mediocre", "bad")}),
]
GAPS = [
    Example({"text": "The # was great", "choices": ("film", "food", "plot and the story")}),
    Example({"text": "这部电影很#，我很喜欢。", "choices": ("好", "不喜欢")}),
    Example({"text": "I like this # .", "choices": ("place", "very bad place", "day", "cast")}),
]
TEMPLATES = {
    "decoder": ["{text} It was{mask}", "{text}{soft:3}{mask} .", "{soft:2} {text}{soft:1} It was{mask} at all{soft:2}"],
    "encoder": ["{text} It was{mask} .", "{soft:2}{mask}{sep}{text}{soft:1}"],
    "encoder-decoder": ["{text} It was{mask} .", "{soft:2} {text}{soft:1} It was{mask}"],
}
WAYS = [(kind, template) for kind in KINDS for template in TEMPLATES[tiny_backbone(kind).kind]]


def build(kind: str, template: str, **settings: Any) -> ChoiceModel:
    method = {"name": "p-tuning", "init": "random"} if "{soft" in template else "hard"
    return ChoiceModel.build(backbone=tiny_backbone(kind), template=template, method=method, seed=5, **settings)


def brute_force(model: ChoiceModel, kind: str, prepared: Any, order: str = "parallel") -> list[list[float]]:
    """Sums of log-probabilities of each row's choices."""
    rows = model.prompt().rows
    found = []
    for row, words in zip(prepared.encoded, prepared.words, strict=True):
        if kind in DECODERS:
            found.append([causal_score(kind, row, word, rows) for word in words.ids])
        elif kind in ENCODERS:
            found.append([masked_score(kind, row, word, rows, order) for word in words.ids])
        else:
            found.append([answered_score(kind, row, word, rows) for word in words.ids])
    return found


def check(
    model: ChoiceModel, kind: str, examples: list[Example], *, keep_context: bool = False, order: str = "parallel"
) -> None:
    prepared = model.prepare(examples, keep_context=keep_context)
    with torch.no_grad():
        expected = brute_force(model, kind, prepared, order)
        got = model(model.batch(prepared, range(len(examples)))).scores
    assert got.shape == (len(examples), max(prepared.counts))
    for scores, right, count in zip(got, expected, prepared.counts, strict=True):
        torch.testing.assert_close(scores[:count], torch.tensor(right), **TOLERANCE)
        assert scores[count:].tolist() == [-torch.inf] * (len(scores) - count)


@pytest.mark.parametrize(("kind", "template"), WAYS)
def test_choices_in_the_slot(kind: str, template: str) -> None:
    model = build(kind, template, length="sum")
    check(model, kind, ROWS)
    if kind in DECODERS:
        check(model, kind, ROWS, keep_context=True)


@pytest.mark.parametrize("kind", ENCODERS)
def test_choices_filled_from_left_to_right(kind: str) -> None:
    check(build(kind, "{text}{soft:2} It was{mask} .", length="sum", fill="chain"), kind, ROWS, order="chain")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("template", ["{text}", "{soft:2} {text}", "{soft:1} {text}{soft:2} ."])
def test_a_gap_in_the_text(kind: str, template: str) -> None:
    model = build(kind, template, length="sum", gap="#")
    check(model, kind, GAPS)
    tokens = model.backbone.tokens
    prepared = model.prepare(GAPS)
    for example, row, words in zip(GAPS, prepared.encoded, prepared.words, strict=True):
        in_front = [token for token, soft in zip(row.ids[: row.slot], row.soft, strict=False) if soft < 0]
        behind = [token for token, soft in zip(row.ids[row.slot :], row.soft[row.slot :], strict=True) if soft < 0]
        hard = [*in_front, *words.ids[0], *behind]
        text = example.fields["text"].replace("#", example.fields["choices"][0])
        end = " ." if template.endswith(".") else ""
        assert "".join(tokens.text(hard).lower().split()) == "".join((text + end).lower().split())
        if kind in DECODERS:  # the white space of the text goes with the choice
            assert words.texts[0].startswith(" ") == (" #" in example.fields["text"])


@pytest.mark.parametrize("kind", KINDS)
def test_scores_do_not_depend_on_the_other_rows(kind: str) -> None:
    model = build(kind, "{text}{soft:2} It was{mask}")
    prepared = model.prepare(ROWS)
    together = model.scores(prepared, batch_size=3)
    for number, count in enumerate(prepared.counts):
        alone = model.scores(prepared.some([number]))
        torch.testing.assert_close(together[number, :count], alone[0], **TOLERANCE)


# -- each choice in a row of its own ---------------------------------------------------------------------------------


@pytest.mark.parametrize("pool", ["cls", "last", "mean", "mask"])
@pytest.mark.parametrize("kind", ["bert", "roberta", "gpt2", "llama", "t5"])
def test_a_head_scores_each_choice(kind: str, pool: str) -> None:
    template = "{text}{soft:2} {choice}{mask}" if pool == "mask" else "{text}{soft:2} {choice}"
    model = build(kind, template, pool=pool)
    with torch.no_grad():
        model.head.linear.weight.copy_(torch.linspace(-1, 1, WIDTH)[None])
    prepared = model.prepare(ROWS)
    got = model.scores(prepared)
    for rows, scores, count in zip(prepared.rows, got, prepared.counts, strict=True):
        for row, score in zip(rows, scores[:count], strict=True):
            assert model.backbone.tokens.tokenizer.decode(row.ids)  # each row is a text of its own
            pooled = _pooled(model, kind, row, pool)
            torch.testing.assert_close(score, model.head.score(pooled[None])[0, 0], rtol=1e-4, atol=1e-5)
        assert len({row.ids for row in rows}) == count


@torch.no_grad()
def _pooled(model: ChoiceModel, kind: str, row: Any, pool: str) -> Tensor:
    """[D] by the plain model: learned tokens do not count."""
    ids, soft = list(row.ids), list(row.soft)
    if pool == "mask" and kind not in DECODERS:
        ids[row.slot : row.slot], soft[row.slot : row.slot] = model.backbone.tokens.slot_ids, [-1]
    rows = model.prompt().rows
    embeddings = plain(kind).model.get_input_embeddings()
    vectors = torch.stack([embeddings(torch.tensor(i)) if s < 0 else rows[s] for i, s in zip(ids, soft, strict=True)])
    trunk = plain(kind).model.get_encoder() if kind in ENCODER_DECODERS else plain(kind).model.base_model
    hidden = trunk(inputs_embeds=vectors[None], **segment_types(kind, ids)).last_hidden_state[0]
    hard = [at for at, one in enumerate(soft) if one < 0]
    if pool == "mean":
        return hidden[hard].mean(0)
    if pool == "mask":
        return hidden[row.slot if kind not in DECODERS else row.slot - 1]
    return hidden[hard[0] if pool == "cls" else -1]


@pytest.mark.parametrize("kind", KINDS)
def test_words_judge_each_choice(kind: str) -> None:
    """The score is what those label words give each choice as a text of its own: log-odds of right over wrong."""
    model = build(kind, "{text}{soft:2} : {choice} .{mask}", yes_no=[["great", "good"], ["terrible"]])
    prepared = model.prepare(ROWS)
    got = model.scores(prepared)
    rows = model.prompt().rows
    for each, scores, count in zip(prepared.rows, got, prepared.counts, strict=True):
        for row, score in zip(each, scores[:count], strict=True):
            words = []
            for word in model.answers.ids:
                if kind in DECODERS:
                    words.append(causal_score(kind, row, word, rows))
                elif kind in ENCODERS:
                    words.append(masked_score(kind, row, word, rows, "parallel"))
                else:
                    words.append(answered_score(kind, row, word, rows))
            labelled = model.yes_no.label_scores(torch.tensor([words]), model.answers)[0]
            torch.testing.assert_close(score, labelled[0] - labelled[1], rtol=1e-4, atol=1e-4)


READ = ["{text}{soft:2} {choice}{mask}", "{soft:2} {text} : {choice} .{mask} at all", "{choice}{soft:1} {text}{mask}{soft:1}"]


@pytest.mark.parametrize("template", READ)
@pytest.mark.parametrize("way", ["one token", "several", "last", "mask", "cls"])
@pytest.mark.parametrize("kind", DECODERS)
def test_branches_equal_rows_of_their_own(kind: str, way: str, template: str, monkeypatch: pytest.MonkeyPatch) -> None:
    words = {"one token": ["good", "bad"], "several": [["great", "disappointing"], ["terrible"]]}.get(way)
    model = build(kind, template, **({"pool": way} if words is None else {"yes_no": words}))
    if model.head is not None:
        with torch.no_grad():
            model.head.linear.weight.copy_(torch.linspace(-1, 1, WIDTH)[None])
    assert model.branches
    prepared = model.prepare(ROWS)
    together = model.scores(prepared)
    num_live = int(model.batch(prepared, range(len(ROWS))).live.mask.sum())
    kept = model.scores(model.prepare(ROWS, keep_context=True)) if not model.why_not_keep() else together
    monkeypatch.setattr(ChoiceModel, "branches", False)
    apart = model.prepare(ROWS)
    torch.testing.assert_close(together, model.scores(apart), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(kept, together, rtol=1e-4, atol=1e-4)
    if template.startswith("{text}") and way != "several":  # what words of several tokens add, is added in both
        assert num_live < int(model.batch(apart, range(len(ROWS))).live.mask.sum())


@pytest.mark.parametrize("words", [["good", "bad"], None])
def test_gradients_of_branches_equal_those_of_rows(words: list[str] | None, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [Example({**example.fields, "answer": "1"}) for example in ROWS]
    model = build("llama", READ[0], **({"pool": "last"} if words is None else {"yes_no": words}))
    slopes = []
    for keep in (False, True):
        loss = model(model.batch(model.prepare(rows, keep_context=keep), range(3))).loss
        slopes.append(torch.autograd.grad(loss, list(model.prompt.parameters()))[0])
    monkeypatch.setattr(ChoiceModel, "branches", False)
    loss = model(model.batch(model.prepare(rows), range(3))).loss
    slopes.append(torch.autograd.grad(loss, list(model.prompt.parameters()))[0])
    torch.testing.assert_close(slopes[0], slopes[2], rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(slopes[1], slopes[2], rtol=1e-3, atol=1e-5)


# -- rules -----------------------------------------------------------------------------------------------------------


def words_of(lengths: list[int]) -> AnswerWords:
    ids = tuple(tuple(range(10 * number, 10 * number + length)) for number, length in enumerate(lengths))
    return AnswerWords(tuple("abcdef"[: len(ids)]), ids, tuple(range(len(ids))), len(ids))


@given(st.lists(st.lists(st.integers(1, 4), min_size=2, max_size=4), min_size=1, max_size=3), st.integers(0, 3), st.data())
def test_sum_mean_and_auto(lengths: list[list[int]], behind: int, data: Any) -> None:
    width = max(map(len, lengths))
    sums = torch.zeros(len(lengths), width)
    for row, mine in enumerate(lengths):
        sums[row, : len(mine)] = torch.tensor([data.draw(st.floats(-9, 0, width=32)) for _ in mine])
    words = [words_of(mine) for mine in lengths]
    got = {rule: choice_scores(sums, words, [behind] * len(words), rule) for rule in ("sum", "mean", "auto")}
    for row, mine in enumerate(lengths):
        for at in range(width):
            if at >= len(mine):
                assert all(scores[row, at] == -torch.inf for scores in got.values())
                continue
            total, mean = sums[row, at].item(), sums[row, at].item() / (mine[at] + behind)
            auto = mean if len(set(mine)) > 1 and not behind else total
            scores = [got[rule][row, at].item() for rule in ("sum", "mean", "auto")]
            assert scores == pytest.approx([total, mean, auto], abs=1e-5)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=5))
def test_scores_are_split_by_row(counts: list[int]) -> None:
    scores = torch.arange(sum(counts)).float()
    split = split_scores(scores, counts)
    assert split.shape == (len(counts), max(counts))
    assert split[split > -torch.inf].tolist() == scores.tolist()
    assert (split > -torch.inf).sum(1).tolist() == counts


@pytest.mark.parametrize(
    ("template", "settings", "words"),
    [
        ("{text}", {}, "no answer slot"),
        ("{text} {choice}", {}, "nothing says what is read off"),
        ("{text}{mask}", {"pool": "last"}, "needs each choice in the template"),
        ("{text}{mask}", {"yes_no": ["good", "bad"]}, "needs each choice in the template"),
        ("{text}{mask}", {"gap": "#"}, "the slot is at the gap"),
        ("{text} {choice}", {"gap": "#", "pool": "last"}, "the slot is at the gap"),
        ("{text}{mask}", {"fill": "pet"}, "fill: pet"),
        ("{text}{soft:2}", {"gap": "#"}, "behind everything"),
    ],
)
def test_what_does_not_go_together_is_refused(template: str, settings: dict, words: str) -> None:
    with pytest.raises(PtuneError, match=words):
        build("gpt2", template, **settings)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"text": "a", "choices": ("one",)}, "one choice"),
        ({"text": "a", "choices": "great"}, "one choice"),
        ({"text": "a", "choices": ("one", " ")}, "an empty choice"),
        ({"text": "a"}, "no 'choices'"),
        ({"text": "a", "choices": ("x", "y"), "answer": "2"}, "none of the 2 choices"),
        ({"text": "a", "choices": ("x", "x"), "answer": "x"}, "stands twice"),
    ],
)
def test_rows_that_cannot_be_read_are_named(fields: dict, words: str) -> None:
    with pytest.raises(PtuneError, match=f"row 7.*{words}|{words}.*row 7"):
        build("gpt2", "{text}{mask}").prepare([Example(fields, where="row 7")])


@pytest.mark.parametrize(("text", "words"), [("no place", "has no gap"), ("a # and #", "has 2 gaps")])
def test_gaps_that_are_not_there_are_named(text: str, words: str) -> None:
    with pytest.raises(PtuneError, match=f"row 7.*{words}|{words}.*row 7"):
        build("gpt2", "{text}", gap="#").prepare([Example({"text": text, "choices": ("x", "y")}, where="row 7")])


def test_answers_are_numbers_or_texts() -> None:
    model = build("gpt2", "{text}{mask}")
    given_as = [("1", ("x", "y")), ("y", ("x", "y")), ("7", ("5", "7")), ("1", ("1", "0"))]
    rows = [Example({"text": "a", "choices": choices, "answer": answer}) for answer, choices in given_as]
    assert model.prepare(rows).labels == (1, 1, 1, 1)
    assert model.prepare([Example({"text": "a", "choices": "x | y", "answer": "1"})]).counts == (2,)
