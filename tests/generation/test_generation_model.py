"""The kind of task `generation`: loss and text agree with each other and with plain models, for every method and model."""

from typing import Any

import pytest
import torch
from torch import Tensor
from writing_models import METHODS, ROWS, built, rows_of

from ptune.errors import BackboneError, DataError, RecipeError, TemplateError
from ptune.inputs import Continued
from ptune.model import GenerationModel, PreparedTexts
from ptune.objective import text_report
from tiny import DECODERS, ENCODER_DECODERS, tiny_backbone, tiny_model

KINDS = [*DECODERS, *ENCODER_DECODERS]
CAUSAL_ONLY = {"p-tuning-v2-behind"}


def pairs(methods: list[str] | None = None) -> list[Any]:
    return [
        pytest.param(kind, method, id=f"{kind}-{method}")
        for method in methods or METHODS
        for kind in KINDS
        if kind in DECODERS or method not in CAUSAL_ONLY
    ]


def scored(model: GenerationModel, rows: list[Continued]) -> Tensor:
    """[B] log-probabilities by `forward`."""
    prepared = PreparedTexts(tuple(row.encoded for row in rows), rows=tuple(rows))
    with torch.no_grad():
        return model(model.batch(prepared, range(len(rows)))).scores


@pytest.mark.parametrize(("kind", "method"), pairs())
def test_the_first_token_written_is_the_argmax_of_forward(kind: str, method: str) -> None:
    model = built(kind, method)
    examples = rows_of()
    written = model.write(examples, model.settings_of({"max_new_tokens": 1}))
    with torch.no_grad():
        prompts = model.prompts(examples)
        first = model(model.batch(prompts, range(4))).scores.argmax(1).tolist()
    ends = model.end_ids
    assert [(*texts[0].ids, None)[0] for texts in written] == [None if index in ends else index for index in first]


@pytest.mark.parametrize(("kind", "method"), pairs())
def test_what_is_written_has_the_log_probability_that_forward_gives_it(kind: str, method: str) -> None:
    """Kept keys and values, windows, prefixes and positions of many steps against one pass over the whole text."""
    model = built(kind, method)
    examples = rows_of()
    written = [texts[0] for texts in model.write(examples, model.settings_of({"temperature": 1.0, "seed": 1}))]
    end = model.backbone.tokens.tokenizer.eos_token_id
    rows = []
    for example, text in zip(examples, written, strict=True):
        ids = (*text.ids, *((end,) if text.reason == "end" else ()))
        rows.append(Continued(model.asked(example).encoded, ids, (True,) * len(ids)))
    assert max(len(text.ids) for text in written) > 8
    together = scored(model, rows)
    assert together.tolist() == pytest.approx([text.log_probability for text in written], abs=2e-4)
    alone = torch.cat([scored(model, [row]) for row in rows])
    torch.testing.assert_close(alone, together, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize(("kind", "method"), pairs(["p-tuning-between", "p-tuning-v2", "p-tuning-v2-behind"]))
@pytest.mark.parametrize("words", [{}, {"beams": 3, "returns": 2}, {"temperature": 1.0, "returns": 2, "seed": 4}])
def test_a_batch_is_written_as_one_by_one(kind: str, method: str, words: dict[str, Any]) -> None:
    model = built(kind, method)
    examples, settings = rows_of(), model.settings_of(words)
    whole = [[text.ids for text in texts] for texts in model.write(examples, settings)]
    assert whole == [[text.ids for text in texts] for texts in model.write(examples, settings, batch_size=1)]
    assert whole == [[text.ids for text in texts] for texts in model.write(examples, settings, batch_size=3)]
    assert len({ids for texts in whole for ids in texts}) > 1


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_that_of_the_plain_model_on_the_answer_alone(kind: str) -> None:
    model, plain = built(kind, "hard"), tiny_model(kind)
    tokens = model.backbone.tokens
    total, num = 0.0, 0
    for example in rows_of():
        (row,) = model.learned(example)
        assert tokens.text(row.answer[:-1]).strip() == example.fields["target"]
        assert row.answer[-1] == tokens.tokenizer.eos_token_id
        prompt, answer = torch.tensor([row.encoded.ids]), torch.tensor([row.answer])
        if kind in DECODERS:
            logits = plain(input_ids=torch.cat([prompt, answer], 1)).logits[0, prompt.shape[1] - 1 : -1]
        else:
            slot = row.encoded.slot
            ids = [*row.encoded.ids[:slot], *tokens.slot_ids, *row.encoded.ids[slot:]]
            decoder = torch.tensor([[*tokens.decoder_ids, *row.answer[:-1]]])
            logits = plain(input_ids=torch.tensor([ids]), decoder_input_ids=decoder).logits[0, len(tokens.decoder_ids) - 1 :]
        losses = torch.nn.functional.cross_entropy(logits, answer[0], reduction="none")
        total, num = total + losses.sum().item(), num + len(losses)
    prepared = model.prepare(rows_of())
    with torch.no_grad():
        outcome = model(model.batch(prepared, range(4)))
    assert outcome.loss is not None
    assert outcome.loss.item() == pytest.approx(total / num, rel=1e-4)
    assert -outcome.scores.sum().item() == pytest.approx(total, rel=1e-4)
    assert model.mean_loss(prepared) == pytest.approx(total / num, rel=1e-4)
    (look,) = model.looks(prepared)
    assert (look.loss, look.score) == pytest.approx((total / num, torch.tensor(-total / num).exp().item()), rel=1e-4)


@pytest.mark.parametrize("kind", DECODERS)
def test_greedy_writes_what_the_plain_model_generates(kind: str) -> None:
    model, plain = built(kind, "hard", max_new_tokens=20), tiny_model(kind)
    for example, texts in zip(rows_of(), model.write(rows_of()), strict=True):
        ids = torch.tensor([model.asked(example).encoded.ids])
        out = plain.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=20, pad_token_id=0)
        theirs = [index for index in out[0, ids.shape[1] :].tolist() if index not in model.end_ids]
        assert list(texts[0].ids) == theirs


@pytest.mark.parametrize("kind", DECODERS)
@pytest.mark.parametrize("method", ["p-tuning-behind", "p-tuning-between", "p-tuning-v2-behind"])
def test_a_kept_context_changes_neither_loss_nor_gradient(kind: str, method: str) -> None:
    model = built(kind, method)
    plain, kept = model.prepare(rows_of()), model.prepare(rows_of(), keep_context=True)
    assert kept.contexts is not None
    assert model.batch(kept, range(4)).live.ids.shape[1] < model.batch(plain, range(4)).live.ids.shape[1]
    results = []
    for prepared in (plain, kept):
        loss = model(model.batch(prepared, [2, 0, 3, 1])).loss
        assert loss is not None
        results.append((loss, *torch.autograd.grad(loss, list(model.prompt.parameters()))))
    for first, second in zip(*results, strict=True):
        torch.testing.assert_close(first, second, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", DECODERS)
def test_what_all_prompts_begin_with_is_read_once(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = built(kind, "prompt-tuning", template="It was great . {input} All{mask}")
    assert model.num_lead(model.prompts(rows_of()).encoded) >= 6
    with_lead = model.write(rows_of(), model.settings_of({"temperature": 1.0}))
    monkeypatch.setattr(model, "num_lead", lambda rows: 0)
    without = model.write(rows_of(), model.settings_of({"temperature": 1.0}))
    assert [texts[0].ids for texts in with_lead] == [texts[0].ids for texts in without]


@pytest.mark.parametrize("kind", ["gpt2", "t5"])
def test_only_the_answers_places_meet_the_vocabulary(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = built(kind, "prompt-tuning")
    batch = model.batch(model.prepare(rows_of()), range(4))
    num_answer = sum(len(model.learned(example)[0].answer) for example in rows_of())
    sizes = []
    logits = model.backbone.logits

    def watched(hidden: Tensor, columns: Tensor | None = None, weight: Tensor | None = None) -> Tensor:
        sizes.append(len(hidden))
        return logits(hidden, columns, weight)

    monkeypatch.setattr(model.backbone, "logits", watched)
    model(batch)
    assert max(sizes) == len(batch.reads.row) == num_answer < batch.live.ids.numel()


@pytest.mark.parametrize(("kind", "method"), pairs(["prompt-tuning-front", "p-tuning-v2-gate", "prefix-tuning"]))
def test_one_step_learns_the_prompt_and_nothing_else(kind: str, method: str) -> None:
    model = built(kind, method)
    before = {name: value.clone() for name, value in model.backbone.model.state_dict().items()}
    optimiser = torch.optim.SGD(model.parameter_groups(), lr=0.1)
    prepared = model.prepare(rows_of())
    losses = []
    for _ in range(2):
        loss = model(model.batch(prepared, range(4))).loss
        assert loss is not None
        loss.backward()
        assert all(parameter.grad is not None and bool(parameter.grad.any()) for parameter in model.prompt.parameters())
        optimiser.step()
        optimiser.zero_grad()
        losses.append(loss.item())
    assert losses[0] != losses[1]
    assert all(torch.equal(value, before[name]) for name, value in model.backbone.model.state_dict().items())


@pytest.mark.parametrize("kind", ["gpt2", "llama", "t5"])
def test_gradients_are_right_in_double_precision(kind: str) -> None:
    model = built(kind, "p-tuning-v2", dtype=torch.float64)
    prepared = model.prepare(rows_of())
    parameter = next(model.prompt.parameters())
    direction = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2), dtype=parameter.dtype)

    def loss() -> Tensor:
        value = model(model.batch(prepared, range(4))).loss
        assert value is not None
        return value

    (slope,) = torch.autograd.grad(loss(), [parameter])
    with torch.no_grad():
        parameter.add_(1e-5 * direction)
        above = loss()
        parameter.sub_(2e-5 * direction)
        below = loss()
    assert (slope * direction).sum().item() == pytest.approx(((above - below) / 2e-5).item(), rel=1e-5)


# -- targets, ends, texts --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_terminator_takes_the_end_tokens_place(kind: str) -> None:
    model = built(kind, "hard", terminator=" !")
    (row,) = model.learned(rows_of()[0])
    assert model.backbone.tokens.text(row.answer).strip() == "It was great !"
    assert not model.end_ids & set(row.answer)
    assert model.settings_of({"stop": "x"}).stop == ("x", " !")
    assert model.settings_of({}).stop == (" !",)
    evil = rows_of([{"input": "bad", "target": "What ! a day"}])
    with pytest.raises(DataError, match=r"row 1: the target holds the terminator ' !'"):
        model.prepare(evil)


def test_a_target_that_is_cut_learns_no_end() -> None:
    model = built("gpt2", "hard", max_new_tokens=4)
    rows = [model.learned(example)[0] for example in rows_of()]
    ends = [0 in row.answer for row in rows]  # the end token's number
    assert [len(row.answer) for row in rows] == [4, 4, 4, 2]
    assert ends == [True, False, False, True]


def test_prompts_leave_room_for_the_answer() -> None:
    long = rows_of([{"input": "The film was great . " * 20, "target": "good"}])
    model = built("gpt2", "prompt-tuning", max_length=40, max_new_tokens=15)
    (row,) = model.prompts(long).rows
    assert len(row.encoded) == 25
    assert row.encoded.num_cut > 0


@pytest.mark.parametrize("kind", ["gpt2", "bart"])
def test_more_tokens_than_positions_are_refused_before_any_is_written(kind: str) -> None:
    model = built(kind, "p-tuning-v2")
    model.write(rows_of()[:2], model.settings_of({"max_new_tokens": 20}))
    with pytest.raises(RecipeError, match=r"do not fit into the 64 positions of tiny-"):
        model.write(rows_of()[:2], model.settings_of({"max_new_tokens": 64}))
    message = "70 new tokens leave no room for a prompt" if kind == "gpt2" else "do not fit into the 64 positions of tiny-"
    with pytest.raises(RecipeError, match=message):
        built(kind, "p-tuning-v2", max_new_tokens=70, max_length=None)


def test_references_are_a_list_its_json_or_the_target() -> None:
    model = built("gpt2", "hard")
    given = rows_of(
        [
            {**ROWS[0], "references": ("It was great", "great", " ")},
            {**ROWS[0], "references": '["good", "bad"]'},
            {**ROWS[0], "references": "so good"},
            ROWS[0],
        ]
    )
    found = [model.references(example) for example in given]
    assert found == [("It was great", "great"), ("good", "bad"), ("so good",), ("It was great",)]
    with pytest.raises(DataError, match="no 'target'"):
        model.references(rows_of([{"input": "bad"}])[0])


def test_a_report_compares_what_is_written_with_the_references() -> None:
    model = built("gpt2", "p-tuning-behind")
    examples = rows_of([{**row, "references": ("It was bad", row["target"])} for row in ROWS])
    report = model.judge(examples)
    texts = [prediction.text for prediction in model.predict(examples)]
    assert report == text_report(texts, [model.references(example) for example in examples])
    assert model.judge(examples, beams=2) == text_report(
        [prediction.text for prediction in model.predict(examples, beams=2)], [model.references(one) for one in examples]
    )
    assert report.num_rows == 4


def test_predictions_hold_what_else_was_found() -> None:
    model = built("gpt2", "p-tuning-behind")
    (plain,) = model.predict(rows_of()[:1])
    assert set(plain.to_dict()) == {"text", "log_probability", "reason"}
    assert "\n" not in str(plain)
    (several,) = model.predict(rows_of()[:1], temperature=2.0, returns=3)
    assert len(several.to_dict()["alternatives"]) == 2
    assert model.predict(rows_of()) == model.predict(rows_of([{"input": row["input"]} for row in ROWS]))


def test_following_a_text_gives_its_pieces() -> None:
    model = built("gemma3", "prompt-tuning", decode={"temperature": 1.0, "seed": 2})
    (example, *_) = rows_of()
    assert "".join(model.follow(example)) == model.predict([example])[0].text != ""
    with pytest.raises(RecipeError, match="only one text can be followed"):
        model.follow(example, model.settings_of({"temperature": 0.0, "beams": 2}))


def test_gradients_stay_on_between_the_pieces() -> None:
    model = built("gpt2", "prompt-tuning")
    for _ in model.follow(rows_of()[0]):
        assert torch.is_grad_enabled()


# -- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_masked_models_write_nothing(kind: str) -> None:
    with pytest.raises(BackboneError, match="is a masked model: it fills gaps in a text, but writes none"):
        built(kind, "hard")


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{input} All", "has no answer slot"),
        ("{input}{mask} All", "goes on behind {mask}, which a causal model never reads"),
        ("{input}{mask} All{mask}", "2 answer slots"),
    ],
)
def test_templates_without_a_place_for_the_answer_are_refused(template: str, message: str) -> None:
    with pytest.raises(TemplateError, match=message):
        built("gpt2", "hard", template=template)


@pytest.mark.parametrize("kind", ENCODER_DECODERS)
def test_an_encoder_decoder_may_go_without_a_slot(kind: str) -> None:
    model = built(kind, "hard", template="{input} All")
    tokens = model.backbone.tokens
    (row,) = model.learned(rows_of()[0])
    assert row.encoded.slot is None
    batch = model.batch(model.prepare(rows_of()), range(4))
    assert batch.decoder is not None
    assert not set(tokens.slot_ids) & set(batch.decoder.ids.flatten().tolist())
    (mine, *_) = model.write(rows_of()[:1])
    ids = torch.tensor([row.encoded.ids])
    plain = tiny_model(kind)
    plain.generation_config.forced_eos_token_id = None
    prefix = [index for index in tokens.decoder_ids if index not in tokens.slot_ids]
    out = plain.generate(ids, decoder_input_ids=torch.tensor([prefix]), do_sample=False, max_new_tokens=12)
    assert list(mine[0].ids) == [index for index in out[0, len(prefix) :].tolist() if index not in model.end_ids]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"input": "bad", "target": " "}, "row 1: the target 'target' is empty"),
        ({"input": "bad", "target": ("a", "b")}, "row 1: the target 'target' is a list"),
    ],
)
def test_rows_without_a_text_to_learn_are_refused(row: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        GenerationModel.check_rows(rows_of([row]), columns={"target": "target"}, labels=(), is_training=True)


@pytest.mark.parametrize(
    ("decode", "message"),
    [
        ({"beams": 0}, r"decode, beams"),
        ({"max_new_tokens": 5}, "a key of its own"),
        ({"width": 3}, "no setting 'width'"),
    ],
)
def test_ways_of_writing_that_do_not_exist_are_refused(decode: dict[str, int], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        built("gpt2", "hard", decode=decode)


def test_a_model_without_an_end_token_needs_a_terminator() -> None:
    import copy

    from ptune.backbone import Backbone
    from tiny import tiny_tokenizer

    tokenizer = copy.deepcopy(tiny_tokenizer("gpt2"))
    tokenizer.pad_token = "!"
    tokenizer.eos_token = None
    backbone = Backbone(tiny_model("gpt2"), tokenizer, name="endless")
    words = {"backbone": backbone, "template": "{input} All{mask}", "method": "hard", "max_length": 40, "max_new_tokens": 4}
    with pytest.raises(BackboneError, match="endless has no token that ends a text"):
        GenerationModel.build(**words)
    assert GenerationModel.build(**words, terminator="\n").terminator == "\n"
    assert tiny_backbone("gpt2").tokens.tokenizer.eos_token_id is not None
