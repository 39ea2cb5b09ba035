"""Learned keys and values in every layer: independent values, starts, gates, placement, windows, mixed batches."""

from typing import Any

import pytest
import torch
from torch import Tensor

from ptune.backbone import text_keys_and_values
from ptune.bundle import bundle_of, model_of
from ptune.errors import BackboneError, PromptError, TemplateError
from ptune.inputs import Place, Prefix, PromptState, merge
from ptune.model import PromptModel
from reference_attention import reference_decoder_states, reference_states
from tiny import (
    DECODERS,
    DEEP_KINDS,
    ENCODER_DECODERS,
    EXAMPLES,
    POSITIONS,
    SLIDING_WINDOW,
    build_backbone,
    example,
    tiny_backbone,
    tiny_model,
)

LABELS = {"yes": ["great", "terrible"], "no": ["bad", "不喜欢"]}
TEMPLATE = "{text} It was{mask}"
TOLERANCE = {"rtol": 1e-5, "atol": 2e-5}
NUM_TOKENS = 3
CLOSE = 1e-5


def build(kind: str, method: str = "p-tuning-v2", template: str = TEMPLATE, **settings: Any) -> PromptModel:
    backbone = tiny_backbone(kind)
    config = {"name": method, "num_tokens": NUM_TOKENS, **settings}
    return PromptModel.build(backbone=backbone, template=template, labels=LABELS, method=config)


def shaken(model: PromptModel, seed: int = 5) -> PromptModel:
    """The model with all it learns moved somewhere far from its start."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.prompt.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return model


def close(mine: Tensor, expected: Tensor) -> None:
    """Equal up to 4e-5 of the largest number."""
    torch.testing.assert_close(mine, expected, rtol=1e-5, atol=4e-5 * max(1.0, float(expected.abs().max())))


def scores(model: PromptModel, examples: Any = EXAMPLES, **settings: Any) -> Tensor:
    prepared = model.prepare(examples, **settings)
    with torch.no_grad():
        return model(model.batch(prepared, range(len(prepared)))).scores


# -- values ----------------------------------------------------------------------------------------------------------


def text_arguments(kind: str, model: PromptModel) -> tuple[Any, dict[str, Any]]:
    """A batch, and the plain model's own arguments for its text."""
    batch = model.batch(model.prepare(EXAMPLES), range(len(EXAMPLES)))
    embed = tiny_model(kind).get_input_embeddings()
    arguments = {"inputs_embeds": embed(batch.live.ids), "attention_mask": batch.live.mask.long()}
    if kind not in ENCODER_DECODERS:
        first = 2 if kind == "roberta" else 0
        arguments["position_ids"] = batch.live.positions + first + NUM_TOKENS
    if batch.live.types is not None:
        arguments["token_type_ids"] = batch.live.types
    return batch, arguments


@pytest.mark.parametrize("method", ["p-tuning-v2", "prefix-tuning"])
@pytest.mark.parametrize("kind", DEEP_KINDS)
def test_states_are_those_of_plain_attention_over_learned_and_own_keys(kind: str, method: str) -> None:
    labels = {"yes": "great", "no": "bad"}  # no branches, so that the plain model can read the same tokens
    config = {"name": method, "num_tokens": NUM_TOKENS}
    model = shaken(PromptModel.build(backbone=tiny_backbone(kind), template=TEMPLATE, labels=labels, method=config))
    batch, arguments = text_arguments(kind, model)
    with torch.no_grad():
        state = model.prompt()
        hidden = model.backbone.hidden(batch.live, state)
        both = state.prefixes["text"].stacked()
        assert both.abs().max() > 0.1
        expected = reference_states(kind, arguments, both)
        close(hidden[batch.live.mask], expected[batch.live.mask])
        if kind in ENCODER_DECODERS:
            states = model.backbone.decoder_hidden(batch.decoder, hidden, batch.live.mask, state)
            source = batch.decoder.source
            decoder_arguments = {
                "input_ids": batch.decoder.ids,
                "encoder_hidden_states": expected[source],
                "encoder_attention_mask": batch.live.mask.long()[source],
            }
            own, cross = (state.prefixes[place].stacked() for place in ("decoder", "cross"))
            close(states, reference_decoder_states(kind, decoder_arguments, own, cross))


@pytest.mark.parametrize("kind", DEEP_KINDS)
def test_every_layer_of_every_stack_gets_gradient(kind: str) -> None:
    """PEFT leaves half of an encoder-decoder's layers dead."""
    model = shaken(build(kind))
    model(model.batch(model.prepare(EXAMPLES), range(len(EXAMPLES)))).loss.backward()
    wanted = {"text", "decoder", "cross"} if kind in ENCODER_DECODERS else {"text"}
    assert set(model.prompt.numbers) == wanted == set(model.backbone.stacks)
    for place, numbers in model.prompt.numbers.items():
        by_layer = numbers.grad.abs().amax((2, 3, 4))
        assert by_layer.shape == (2, model.backbone.stacks[place].spec.num_layers)
        assert bool((by_layer > 0).all()), f"{place}: {by_layer}"


def test_a_model_without_the_attention_interface_is_refused_by_name() -> None:
    with pytest.raises(BackboneError, match=r"tiny-deberta \(deberta-v2\) takes no learned keys and values.*interface"):
        build("deberta")


# -- starts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["p-tuning-v2", "prefix-tuning"])
@pytest.mark.parametrize("kind", DECODERS)
def test_a_start_from_words_is_those_words_in_front(kind: str, method: str) -> None:
    """On a causal model, keys and values of a text are that text standing in front, positions included."""
    backbone = tiny_backbone(kind)
    words = "the film was good"
    ids = [*backbone.tokens.start_ids, *backbone.tokens.ids(words)]
    model = PromptModel.build(
        backbone=backbone,
        template=TEMPLATE,
        labels={"yes": "great", "no": "bad"},
        method={"name": method, "num_tokens": len(ids), "init_text": words},
    )
    if kind == "gemma3":  # learned keys stay in sight of sliding layers; so short a text does too
        assert len(ids) + len(model.encode(EXAMPLES[1])) <= SLIDING_WINDOW + len(ids)
    row = model.encode(EXAMPLES[1])
    whole = torch.tensor([[*ids, *row.ids[: row.slot]]])
    plain = tiny_model(kind)
    if kind == "gemma3":
        for layer in plain.model.layers:
            layer.self_attn.sliding_window = None
        plain.config.sliding_window = POSITIONS
    with torch.no_grad():
        expected = plain(input_ids=whole).logits[0, -1, [word[0] for word in model.answers.ids]]
    torch.testing.assert_close(scores(model, EXAMPLES[1:2])[0], expected, **TOLERANCE)


@pytest.mark.parametrize("kind", DEEP_KINDS)
def test_keys_and_values_of_a_text_fill_all_stacks(kind: str) -> None:
    backbone = tiny_backbone(kind)
    both = text_keys_and_values(backbone, [7, 9, 11, 13])
    for place, stack in backbone.stacks.items():
        assert both[place].shape == (2, stack.spec.num_layers, stack.spec.num_heads, 4, stack.spec.head_size)
    prompt = build(kind, num_tokens=4, init_text="good film was bad").prompt()
    assert set(prompt.prefixes) == set(both)


def test_another_task_s_keys_and_values_are_a_start() -> None:
    source = shaken(build("llama"))
    given = {"text": source.prompt().prefixes["text"].stacked().detach()}
    config = {"name": "p-tuning-v2", "num_tokens": NUM_TOKENS, "init": "bundle", "init_bundle": "elsewhere"}
    settings = {"backbone": source.backbone, "template": TEMPLATE, "labels": LABELS}
    target = PromptModel.build(method=config, init_deep=given, **settings)
    torch.testing.assert_close(target.prompt().prefixes["text"].stacked(), given["text"])
    with pytest.raises(PromptError, match="has 3 learned tokens in the text stack, this prompt 5"):
        PromptModel.build(method={**config, "num_tokens": 5}, init_deep=given, **settings)


@pytest.mark.parametrize("kind", DEEP_KINDS)
def test_a_gate_starts_as_the_model_itself_and_learns(kind: str) -> None:
    model = build(kind, gate=True)
    hard = model.without_prompt()
    torch.testing.assert_close(scores(model), scores(hard), **TOLERANCE)
    model(model.batch(model.prepare(EXAMPLES), range(len(EXAMPLES)))).loss.backward()
    for gates in model.prompt.gates.values():
        assert bool((gates.grad != 0).any(1).all()), "each layer's gate has to move"
    moved = shaken(model)
    assert (scores(moved) - scores(hard)).abs().max() > 1e-3
    one_by_one = torch.cat([scores(moved, [row]) for row in EXAMPLES])
    torch.testing.assert_close(one_by_one, scores(moved), **TOLERANCE)


def test_zero_keys_without_a_gate_are_not_neutral() -> None:
    model = build("llama")
    with torch.no_grad():
        for parameter in model.prompt.parameters():
            parameter.zero_()
    assert (scores(model) - scores(model.without_prompt())).abs().max() > 1e-3


# -- behind the text -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gate", [False, True])
@pytest.mark.parametrize("kind", DECODERS)
def test_behind_the_text_a_kept_context_changes_nothing(kind: str, gate: bool) -> None:
    model = shaken(build(kind, placement="behind", gate=gate))
    rows = [*EXAMPLES, example("great film " * 7)]
    plain = scores(model, rows)
    assert not model.why_not_keep()
    prepared = model.prepare(rows, keep_context=True)
    assert all(
        int(model.batch(prepared, [i]).live.positions[0, 0]) == row.deep_from > 0 for i, row in enumerate(prepared.encoded)
    )
    torch.testing.assert_close(scores(model, rows, keep_context=True), plain, **TOLERANCE)
    torch.testing.assert_close(model.scores(model.prepare(rows), batch_size=2), plain, **TOLERANCE)
    gradients = []
    for keep in (False, True):
        model.zero_grad()
        fresh = model.prepare(EXAMPLES, keep_context=keep)
        model(model.batch(fresh, range(len(EXAMPLES)))).loss.backward()
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in model.prompt.parameters()]))
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=CLOSE * float(gradients[0].abs().max() + 1))


@pytest.mark.parametrize("kind", DECODERS)
def test_behind_the_text_the_text_does_not_see_the_prompt(kind: str) -> None:
    """The text's own keys are those of the plain model, whatever was learned."""
    model = shaken(build(kind, placement="behind"))
    batch = model.batch(model.prepare(EXAMPLES[3:4]), [0])
    first = int(batch.live.deep[0].long().argmax())
    assert 0 < first < batch.live.ids.shape[1]
    states = []
    for state in (model.prompt(), PromptState()):
        keep: dict[int, tuple[Tensor, Tensor]] = {}
        with torch.no_grad():
            model.backbone.hidden(batch.live, state, keep=keep)
        states.append(keep[len(keep) - 1][0])
    assert torch.equal(states[0][:, :, :first], states[1][:, :, :first])
    assert not torch.allclose(states[0][:, :, first:], states[1][:, :, first:])


def test_in_front_nothing_can_be_kept_and_behind_is_for_causal_models() -> None:
    assert "in front of the whole text" in build("llama").why_not_keep()
    with pytest.raises(PromptError, match="tiny-bert is not causal"):
        build("bert", placement="behind")


# -- windows, positions, padding -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["gemma3", "modernbert"])
def test_learned_keys_are_seen_in_every_window(kind: str) -> None:
    """Texts of 1.5 windows and more: values as by the independent attention, whose mask is the model's own."""
    model = shaken(build(kind, template="{text}{mask}"))
    rows = [example("great film " * num) for num in (3, 5, 9)]
    batch = model.batch(model.prepare(rows), range(3))
    lengths = batch.live.mask.sum(1).tolist()
    assert any(SLIDING_WINDOW * 1.25 < length < SLIDING_WINDOW * 2 for length in lengths) and max(lengths) > 2 * SLIDING_WINDOW
    arguments = {
        "inputs_embeds": tiny_model(kind).get_input_embeddings()(batch.live.ids),
        "attention_mask": batch.live.mask.long(),
        "position_ids": batch.live.positions + NUM_TOKENS,
    }
    if batch.live.tree is not None:  # branches have no counterpart there: read the trunk only
        arguments = {name: value[:, : int(batch.live.tree[0].long().sum(1).argmax()) + 1] for name, value in arguments.items()}
    with torch.no_grad():
        state = model.prompt()
        mine = model.backbone.hidden(batch.live, state)
        expected = reference_states(kind, arguments, state.prefixes["text"].stacked())
    shared = batch.live.mask[:, : expected.shape[1]]
    if batch.live.tree is not None:
        trunks = torch.tensor([row.slot for row in model.prepare(rows).encoded])
        shared = torch.arange(expected.shape[1])[None] < trunks[:, None]
    torch.testing.assert_close(mine[:, : expected.shape[1]][shared], expected[shared], **TOLERANCE)


@pytest.mark.parametrize("kind", ["bert", "roberta", "gpt2", "albert"])
def test_the_text_makes_room_for_the_prefix_in_learned_positions(kind: str) -> None:
    model = build(kind)
    assert model.max_length == POSITIONS - NUM_TOKENS
    assert torch.isfinite(scores(model, [example("good " * 200)])).all()
    with pytest.raises(TemplateError, match=f"{POSITIONS} positions of tiny-{kind}"):
        build(kind, num_tokens=POSITIONS)
    backbone = tiny_backbone(kind)
    with pytest.raises(TemplateError, match=rf"has {POSITIONS - 3} positions .*beside the 3 of the learned tokens"):
        config = {"name": "p-tuning-v2", "num_tokens": 3}
        PromptModel.build(backbone=backbone, template=TEMPLATE, labels=LABELS, method=config, max_length=POSITIONS)


# -- many tasks, files, dropout --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [kind for kind in DEEP_KINDS if kind not in ENCODER_DECODERS])
def test_a_batch_that_mixes_deep_and_shallow_tasks_equals_each_alone(kind: str) -> None:
    backbone = tiny_backbone(kind)
    settings: dict[str, Any] = {"backbone": backbone, "labels": LABELS}
    models = [
        shaken(build(kind)),
        PromptModel.build(template="{text}{soft:2} It was{mask}", method="p-tuning", **settings),
        shaken(build(kind, num_tokens=5), seed=6),
        PromptModel.build(template=TEMPLATE, method="hard", **settings),
        *([shaken(build(kind, placement="behind"))] if kind in DECODERS else []),
    ]
    assert all(model.can_share_a_batch for model in models)
    batches = [
        model.batch(model.prepare(EXAMPLES[i : i + 3]), range(len(EXAMPLES[i : i + 3]))) for i, model in enumerate(models)
    ]
    with torch.no_grad():
        merged = merge(batches, [model.prompt() for model in models], backbone.tokens.pad_id)
        states = backbone.read(merged.live, merged.prompt, merged.reads, merged.contexts)
        for model, batch, mine in zip(models, batches, torch.split(states, list(merged.sizes)), strict=True):
            torch.testing.assert_close(model.scores_of_states(mine, batch), model(batch).scores, **TOLERANCE)


def test_gates_keep_a_task_out_of_mixed_batches() -> None:
    assert not build("llama", gate=True).can_share_a_batch


@pytest.mark.parametrize("settings", [{}, {"gate": True}, {"projection": True}], ids=["plain", "gate", "projection"])
@pytest.mark.parametrize("kind", ["bert", "llama", "t5", "albert"])
def test_a_bundle_holds_the_products_and_nothing_of_the_encoder(kind: str, settings: dict[str, Any]) -> None:
    model = shaken(build(kind, **settings))
    bundle = bundle_of(model, {})
    places: list[Place] = ["text", "decoder", "cross"] if kind in ENCODER_DECODERS else ["text"]
    names = {"prior", *(f"deep.{place}" for place in places)}
    assert set(bundle.tensors) == names | ({f"gate.{place}" for place in places} if "gate" in settings else set())
    loaded = model_of(bundle, tiny_backbone(kind))
    assert torch.equal(scores(loaded), scores(model))


def test_dropout_is_for_training_steps_only_and_follows_the_seed() -> None:
    model = shaken(build("bert", dropout=0.5))
    batch = model.batch(model.prepare(EXAMPLES), range(len(EXAMPLES)))
    with torch.no_grad():
        still = model(batch).scores
        assert torch.equal(model(batch).scores, still)
    drawn = []
    for _ in range(2):
        torch.manual_seed(3)
        drawn.append(model(batch).scores)
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], still)
    model.eval()
    assert torch.equal(model(batch).scores, still)


def test_prefixes_of_one_stack_alone() -> None:
    model = build("t5", places=["decoder"])
    assert list(model.prompt().prefixes) == ["decoder"]
    with pytest.raises(PromptError, match="has no attention stack 'decoder'; it has text"):
        build("bert", places=["decoder"])


def test_learned_tokens_in_the_template_are_refused() -> None:
    with pytest.raises(PromptError, match="which p-tuning-v2 does not take"):
        build("bert", template="{text}{soft:3} It was{mask}")


def test_a_prefix_knows_its_parts() -> None:
    both = torch.randn(2, 3, 2, 4, 5)
    prefix = Prefix.of(both)
    assert torch.equal(prefix.stacked(), both) and prefix.num_tokens == 4 and not prefix.learns
    keys, values = prefix.layer(1)
    assert torch.equal(keys[0], both[0, 1]) and torch.equal(values[0], both[1, 1])


@pytest.mark.parametrize("kind", ["bert", "distilbert", "modernbert", "llama", "t5"])
def test_checkpointing_changes_nothing(kind: str) -> None:
    backbone = build_backbone(kind)
    config = {"name": "p-tuning-v2", "num_tokens": NUM_TOKENS}
    model = PromptModel.build(backbone=backbone, template=TEMPLATE, labels=LABELS, method=config)
    steps = []
    for enabled in (False, True):
        backbone.checkpoint(enabled)
        model.zero_grad()
        outcome = model(model.batch(model.prepare(EXAMPLES), range(len(EXAMPLES))))
        outcome.loss.backward()
        steps.append([outcome.scores.detach(), *(parameter.grad.clone() for parameter in model.prompt.parameters())])
    for first, second in zip(*steps, strict=True):
        torch.testing.assert_close(first, second, **TOLERANCE)
