"""Every prompt method on every kind of backbone: the conformance list of the architecture page.

A new method is one more `Method`, a new backbone one more kind in `tiny.py`. What a pair cannot do stands in `EXCEPTIONS`
with its reason; nothing is skipped silently.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers.modeling_layers import GradientCheckpointingLayer

from ptune.backbone import Backbone
from ptune.backbone.backbone import fingerprint
from ptune.errors import BackboneError, PtuneError, TemplateError
from ptune.inputs import StackSpec, lay_out_pooled, lay_out_words
from ptune.model import PromptModel
from tiny import (
    DECODERS,
    DEEP_KINDS,
    ENCODER_DECODERS,
    ENCODERS,
    EXAMPLES,
    KINDS,
    POSITIONS,
    SLIDING_WINDOW,
    WIDTH,
    build_backbone,
    example,
    tiny_backbone,
    tiny_model,
)

TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}
SINGLE = {"yes": "great", "no": "bad"}
SEVERAL = {"yes": ["great", "terrible"], "no": ["bad", "不喜欢"]}


@dataclass(frozen=True)
class Method:
    """One method with settings, a template that suits it, and its docstring's formula for the trained parameters."""

    id: str
    config: dict[str, Any]
    template: str
    num_parameters: Callable[[int], int]
    num_rows: int = 0
    num_deep_parameters: Callable[[list[StackSpec]], int] | None = None

    def build(self, backbone: Backbone, labels: Any = SEVERAL, template: str | None = None, **settings: Any) -> PromptModel:
        return PromptModel.build(
            backbone=backbone, template=template or self.template, labels=labels, method=self.config, **settings
        )


def lstm_parameters(size: int) -> int:
    """Two bidirectional layers of hidden size E/2, each gate with two biases."""
    hidden = size // 2
    return 2 * (4 * hidden * (size + hidden) + 8 * hidden) + 2 * (4 * hidden * (2 * hidden + hidden) + 8 * hidden)


HARD = Method("hard", {"name": "hard"}, "{text} It was{mask}", lambda size: 0)
METHODS = [
    HARD,
    Method(
        "prompt-tuning-front",
        {"name": "prompt-tuning", "num_tokens": 4, "placement": "front"},
        "{text} It was{mask}",
        lambda size: 4 * size,
        num_rows=4,
    ),
    Method(
        "prompt-tuning-after-bos",
        {"name": "prompt-tuning", "num_tokens": 3},
        "{text} It was{mask}",
        lambda size: 3 * size,
        num_rows=3,
    ),
    Method("p-tuning-embedding", {"name": "p-tuning"}, "{text}{soft:3} It was{mask}", lambda size: 3 * size, num_rows=3),
    Method(
        "p-tuning-shared-rows",
        {"name": "p-tuning", "init": "random"},
        "{soft:2 id=a} {text}{soft:2 id=a}{soft:3 same}{mask} .",
        lambda size: 3 * size,
        num_rows=3,
    ),
    Method(
        "p-tuning-mlp",
        {"name": "p-tuning", "encoder": "mlp"},
        "{text}{soft:2} It was{mask}",
        lambda size: 2 * size + 2 * (size * size + size),
        num_rows=2,
    ),
    Method(
        "p-tuning-lstm",
        {"name": "p-tuning", "encoder": "lstm"},
        "{soft:1} {text}{soft:2} It was{mask}",
        lambda size: 3 * size + lstm_parameters(size) + 2 * (size * size + size),
        num_rows=3,
    ),
]


def _widths(stacks: list[StackSpec]) -> int:
    """2 * N * H_kv * K, over all attention stacks that learn."""
    return sum(2 * stack.num_layers * stack.num_heads * stack.head_size for stack in stacks)


def _encoder(stacks: list[StackSpec], num_tokens: int) -> int:
    """P * d + (d * 512 + 512) for each stack, + 513 * 2 * N * H_kv * K."""
    return len(stacks) * (num_tokens * WIDTH + WIDTH * 512 + 512) + 513 * _widths(stacks)


def _gates(stacks: list[StackSpec]) -> int:
    return sum(stack.num_layers * stack.num_heads for stack in stacks)


DEEP = [
    Method(
        "p-tuning-v2",
        {"name": "p-tuning-v2", "num_tokens": 3},
        "{text} It was{mask}",
        lambda size: 0,
        num_deep_parameters=lambda stacks: 3 * _widths(stacks),
    ),
    Method(
        "p-tuning-v2-gate",
        {"name": "p-tuning-v2", "num_tokens": 2, "gate": True},
        "{text}{mask} .",
        lambda size: 0,
        num_deep_parameters=lambda stacks: 2 * _widths(stacks) + _gates(stacks),
    ),
    Method(
        "p-tuning-v2-projection",
        {"name": "p-tuning-v2", "num_tokens": 3, "projection": True},
        "{text} It was{mask}",
        lambda size: 0,
        num_deep_parameters=lambda stacks: _encoder(stacks, 3),
    ),
    Method(
        "prefix-tuning",
        {"name": "prefix-tuning", "num_tokens": 4, "init_text": "the film was good"},
        "{text} It was{mask}",
        lambda size: 0,
        num_deep_parameters=lambda stacks: _encoder(stacks, 4),
    ),
]
METHODS += DEEP
LEARNING = [method for method in METHODS if method.num_rows or method.num_deep_parameters]


@dataclass(frozen=True)
class Declared:
    """A check that a pair of method and kind does not have to pass, and why."""

    check: str
    kinds: tuple[str, ...]
    reason: str
    methods: tuple[str, ...] = ("*",)


EXCEPTIONS = [
    Declared(
        "left padding",
        ("bart",),
        "BART's encoder numbers positions itself and takes no position ids, so padding must stand right",
    ),
    Declared("positions", ("t5", "t5-untied"), "T5's positions are relative: there is no longest input"),
    Declared("checkpointing", ("albert",), "ALBERT has no layers that checkpoint"),
    Declared("gradient", ("modernbert",), "ModernBERT rounds rotated queries and keys to single precision"),
]


def pairs(check: str, methods: list[Method] = METHODS, kinds: list[str] = KINDS) -> Iterator[Any]:
    """All pairs of method and kind, exceptions marked with their reason."""
    for method in methods:
        for kind in DEEP_KINDS if kinds is KINDS and method.num_deep_parameters else kinds:
            why = [
                entry.reason
                for entry in EXCEPTIONS
                if entry.check == check and kind in entry.kinds and (method.id in entry.methods or "*" in entry.methods)
            ]
            yield pytest.param(method, kind, id=f"{method.id}-{kind}", marks=[pytest.mark.skip(reason=why[0])] if why else [])


def over(check: str, methods: list[Method] = METHODS, kinds: list[str] = KINDS) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(("method", "kind"), list(pairs(check, methods, kinds)))


def scores_of(model: PromptModel, index: list[int] | range, *, keep_context: bool = False) -> Tensor:
    prepared = model.prepare(EXAMPLES, keep_context=keep_context)
    with torch.no_grad():
        return model(model.batch(prepared, index)).scores


def one_step(model: PromptModel) -> Tensor:
    """One AdamW step on all examples; returns the loss."""
    optimiser = torch.optim.AdamW(model.parameter_groups())
    outcome = model(model.batch(model.prepare(EXAMPLES), range(len(EXAMPLES))))
    outcome.loss.backward()
    optimiser.step()
    return outcome.loss.detach()


def as_bytes(tensors: dict[str, Tensor]) -> dict[str, bytes]:
    return {name: tensor.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes() for name, tensor in tensors.items()}


# -- 1, 2, 6: what is learned ----------------------------------------------------------------------------------------


@over("one step", LEARNING)
@pytest.mark.parametrize("pool", [None, "mask"], ids=["label-words", "head"])
def test_one_step_changes_the_method_and_nothing_else(method: Method, kind: str, pool: str | None) -> None:
    backbone = tiny_backbone(kind)
    model = method.build(backbone, SEVERAL if pool is None else ["yes", "no"], pool=pool)
    backbone_before, print_before = as_bytes(backbone.model.state_dict()), fingerprint(backbone.model)
    learned_before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    buffers_before = as_bytes(dict(model.named_buffers()))
    one_step(model)
    assert as_bytes(backbone.model.state_dict()) == backbone_before
    assert fingerprint(backbone.model) == print_before == backbone.fingerprint
    assert as_bytes(dict(model.named_buffers())) == buffers_before
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in backbone.model.parameters())
    with_gradient = {name for name, parameter in model.named_parameters() if parameter.grad.abs().max() > 0}
    changed = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, learned_before[name])}
    assert with_gradient <= changed
    assert any(name.startswith("prompt.") for name in with_gradient)
    assert pool is None or {"head.linear.weight", "head.linear.bias"} <= with_gradient


@over("one step", LEARNING)
def test_every_parameter_learns_within_two_steps(method: Method, kind: str) -> None:
    """An encoder's output starts at zero, so what lies behind its last layer moves from the second step on."""
    model = method.build(tiny_backbone(kind))
    one_step(model)
    model.zero_grad()
    model(model.batch(model.prepare(EXAMPLES), range(len(EXAMPLES)))).loss.backward()
    still = [name for name, parameter in model.named_parameters() if not parameter.grad.abs().max() > 0]
    assert still == []


@over("number of parameters")
@pytest.mark.parametrize("pool", [None, "cls"], ids=["label-words", "head"])
def test_the_number_of_trained_parameters_is_the_formula(method: Method, kind: str, pool: str | None) -> None:
    backbone = tiny_backbone(kind)
    model = method.build(backbone, SEVERAL if pool is None else ["yes", "no", "perhaps"], pool=pool)
    head = 0 if pool is None else WIDTH * 3 + 3
    expected = method.num_parameters(backbone.spec.embedding_size) + head
    stacks = [stack.spec for place, stack in backbone.stacks.items() if pool is None or place == "text"]
    if method.num_deep_parameters is not None:
        expected += method.num_deep_parameters(stacks)
    assert model.num_trained == expected == sum(parameter.numel() for parameter in model.parameters())
    assert model.layout.num_rows == method.num_rows
    held = sum(tensor.numel() for tensor in model.state_dict().values())
    start = method.num_rows * WIDTH + (method.config["num_tokens"] * _widths(stacks) if method in DEEP else 0)
    assert held <= expected + len(model.labels) + start, "state_dict holds more than what is learned"


@over("same seed", LEARNING)
def test_same_seed_same_bytes(method: Method, kind: str) -> None:
    first, second = (method.build(tiny_backbone(kind), seed=7) for _ in range(2))
    assert as_bytes(first.state_dict()) == as_bytes(second.state_dict())
    for _ in range(2):
        assert torch.equal(one_step(first), one_step(second))
    assert as_bytes(first.state_dict()) == as_bytes(second.state_dict())
    assert as_bytes(method.build(tiny_backbone(kind), seed=8).state_dict()) != as_bytes(
        method.build(tiny_backbone(kind), seed=7).state_dict()
    )


@over("global randomness", LEARNING)
def test_building_leaves_the_global_random_state_alone(method: Method, kind: str) -> None:
    before = torch.get_rng_state()
    method.build(tiny_backbone(kind))
    assert torch.equal(torch.get_rng_state(), before)


# -- 3: batches ------------------------------------------------------------------------------------------------------


@over("batch composition")
@pytest.mark.parametrize("labels", [SINGLE, SEVERAL], ids=["one-token", "several-tokens"])
def test_scores_do_not_depend_on_the_batch(method: Method, kind: str, labels: Any) -> None:
    model = method.build(tiny_backbone(kind), labels)
    together = scores_of(model, range(len(EXAMPLES)))
    assert len({round(float(row[0] - row[1]), 3) for row in together}) > 1, "rows must differ for this to say anything"
    order = [3, 1, 4, 0, 2]
    torch.testing.assert_close(scores_of(model, order), together[order], **TOLERANCE)
    alone = torch.cat([scores_of(model, [i]) for i in range(len(EXAMPLES))])
    torch.testing.assert_close(alone, together, **TOLERANCE)
    torch.testing.assert_close(model.scores(model.prepare(EXAMPLES), batch_size=2), together, **TOLERANCE)


@over("left padding")
@pytest.mark.parametrize("labels", [SINGLE, SEVERAL], ids=["one-token", "several-tokens"])
def test_scores_do_not_depend_on_the_padding_side(method: Method, kind: str, labels: Any) -> None:
    model = method.build(tiny_backbone(kind), labels)
    index = range(len(EXAMPLES))
    for keep_context in [False] if model.why_not_keep() else [False, True]:
        prepared = model.prepare(EXAMPLES, keep_context=keep_context)
        settings = {"labels": prepared.labels, "index": index, "has_types": model._has_types}
        contexts, skip = model._contexts(prepared, prepared.encoded, None)
        batches = [
            lay_out_words(
                prepared.encoded,
                model.answers,
                model.backbone.tokens,
                padding_side=side,
                contexts=contexts,
                skip=skip,
                **settings,
            )
            for side in ("right", "left")
        ]
        assert keep_context or not torch.equal(batches[0].live.mask, batches[1].live.mask)
        with torch.no_grad():
            right, left = (model(batch).scores for batch in batches)
        torch.testing.assert_close(left, right, **TOLERANCE)


@over("left padding", [HARD, METHODS[1], METHODS[4]])
@pytest.mark.parametrize("pool", ["cls", "last", "mean", "mask"])
def test_head_scores_do_not_depend_on_the_padding_side(method: Method, kind: str, pool: Any) -> None:
    model = method.build(tiny_backbone(kind), ["yes", "no"], pool=pool)
    prepared = model.prepare(EXAMPLES)
    settings = {"labels": prepared.labels, "index": range(len(EXAMPLES)), "has_types": model._has_types}
    with torch.no_grad():
        right, left, alone = (
            model(lay_out_pooled(prepared.encoded, pool, model.backbone.tokens, **settings)).scores,
            model(lay_out_pooled(prepared.encoded, pool, model.backbone.tokens, padding_side="left", **settings)).scores,
            torch.cat([model(model.batch(prepared, [i])).scores for i in range(len(EXAMPLES))]),
        )
    torch.testing.assert_close(left, right, **TOLERANCE)
    torch.testing.assert_close(alone, right, **TOLERANCE)


# -- 4: engine paths -------------------------------------------------------------------------------------------------


def loss_and_gradients(
    model: PromptModel, *, keep_context: bool = False, examples: Any = EXAMPLES
) -> tuple[Tensor, Tensor, Tensor]:
    """Scores, loss and all gradients of one batch, flattened."""
    model.zero_grad()
    prepared = model.prepare(examples, keep_context=keep_context)
    outcome = model(model.batch(prepared, range(len(prepared))))
    if outcome.loss.requires_grad:
        outcome.loss.backward()
    gradients = [parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None]
    return outcome.scores.detach(), outcome.loss.detach(), torch.cat([torch.zeros(1), *gradients])


def assert_same_step(first: tuple[Tensor, ...], second: tuple[Tensor, ...]) -> None:
    """Equal up to 1e-5 of the largest number of each kind."""
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5 * max(1.0, float(b.abs().max())))


@over("kept context")
@pytest.mark.parametrize("labels", [SINGLE, SEVERAL], ids=["one-token", "several-tokens"])
def test_a_kept_context_changes_nothing(method: Method, kind: str, labels: Any) -> None:
    model = method.build(tiny_backbone(kind), labels)
    if kind not in DECODERS:
        assert "causal" in model.why_not_keep()
        with pytest.raises(BackboneError, match="causal"):
            model.prepare(EXAMPLES, keep_context=True)
        return
    if method in DEEP:
        assert "in front of the whole text" in model.why_not_keep(), "tests/deep keeps contexts where they stand behind it"
        return
    assert_same_step(loss_and_gradients(model, keep_context=True), loss_and_gradients(model))


@pytest.mark.parametrize("pool", ["cls", "last", "mean", "mask"])
@over("kept context", kinds=DECODERS)
def test_a_kept_context_changes_no_head(method: Method, kind: str, pool: Any) -> None:
    model = method.build(tiny_backbone(kind), ["yes", "no"], pool=pool)
    if pool in ("cls", "mean"):
        assert pool in model.why_not_keep(), "these read the tokens that a kept context holds"
        return
    if method in DEEP:
        assert "in front of the whole text" in model.why_not_keep()
        return
    assert_same_step(loss_and_gradients(model, keep_context=True), loss_and_gradients(model))


@over("checkpointing", LEARNING)
def test_checkpointing_changes_nothing_and_does_recompute(method: Method, kind: str) -> None:
    backbone = build_backbone(kind)
    model = method.build(backbone)
    calls = []
    layers = [module for module in backbone.model.modules() if isinstance(module, GradientCheckpointingLayer)]
    assert backbone.reads_where_needed == (kind in DECODERS)  # tried now, so that the trial's calls are not counted
    if kind in DECODERS:
        layers = layers[:-1]  # the last one runs in two parts where it is read, and whole with checkpointing
    for layer in layers:  # a layer's own hooks stay outside the recomputation, those of its first weights do not
        first = next(module for module in layer.modules() if not list(module.children()))
        first.register_forward_pre_hook(lambda *_: calls.append(1))
    without = loss_and_gradients(model)
    num_without = len(calls)
    backbone.checkpoint(True)
    calls.clear()
    assert_same_step(loss_and_gradients(model), without)
    # The decoder of an encoder-decoder model reads the prompt through the encoder, so all its layers are recomputed too.
    # The short way multiplies with its weights itself; gates do not take it, nor does what is recomputed.
    is_short = any("forward" in vars(layer) for layer in layers) and not method.config.get("gate")
    assert num_without == (0 if is_short else len(layers))
    assert len(calls) == 2 * len(layers)
    if not model.why_not_keep():
        assert_same_step(loss_and_gradients(model, keep_context=True), without)
    backbone.checkpoint(False)
    calls.clear()
    assert_same_step(loss_and_gradients(model), without)
    assert len(calls) == num_without
    assert not any(module.training for module in backbone.model.modules())


@pytest.mark.parametrize("method", [one for one in LEARNING if one not in DEEP], ids=lambda method: method.id)
def test_a_kept_context_obeys_the_sliding_window(method: Method) -> None:
    """Texts of 1.5 windows and more, so that some tokens are out of sight for a sliding layer and not for a full one."""
    model = method.build(tiny_backbone("gemma3"))
    long = [example("great film " * num, "yes") for num in (3, 6, 9)] + [example("bad", "no")]
    lengths = [len(model.encode(row)) for row in long]
    assert any(SLIDING_WINDOW * 1.4 < length < SLIDING_WINDOW * 2 for length in lengths) and max(lengths) > SLIDING_WINDOW * 2
    assert_same_step(loss_and_gradients(model, keep_context=True, examples=long), loss_and_gradients(model, examples=long))


def test_the_sliding_window_matters_there() -> None:
    """The same weights without a window score otherwise: the test above does not pass for free."""
    wide = tiny_model("gemma3")
    for layer in wide.model.layers:
        layer.self_attn.sliding_window = None
    wide.config.sliding_window = POSITIONS
    narrow, texts = tiny_backbone("gemma3"), [example("great film " * 9, "yes")]
    scores = [
        LEARNING[2].build(backbone).scores(LEARNING[2].build(backbone).prepare(texts))
        for backbone in (narrow, Backbone(wide, narrow.tokens.tokenizer, name="wide"))
    ]
    assert (scores[0] - scores[1]).abs().max() > 1e-3


# -- 8: positions and pooling ----------------------------------------------------------------------------------------


@over("pooling")
def test_a_head_reads_the_right_token(method: Method, kind: str) -> None:
    """Found from the tokens themselves: ids, and which of them are learned."""
    backbone = tiny_backbone(kind)
    tokenizer = backbone.tokens.tokenizer
    for pool in ("cls", "last", "mean", "mask"):
        model = method.build(backbone, ["yes", "no"], pool=pool)
        prepared = model.prepare(EXAMPLES)
        batch = model.batch(prepared, range(len(EXAMPLES)))
        for row in range(len(EXAMPLES)):
            weights, real = batch.pool[row], batch.live.mask[row]
            ids, soft = batch.live.ids[row][real].tolist(), batch.live.soft[row][real].tolist()
            chosen = torch.nonzero(weights)[:, 0].tolist()
            assert float(weights.sum()) == pytest.approx(1.0)
            hard = [at for at, learned in enumerate(soft) if learned < 0]
            if pool == "mean":
                assert chosen == hard and len(set(weights[chosen].tolist())) == 1
                continue
            (at,) = chosen
            if pool == "cls":
                assert at == hard[0]
                if tokenizer.cls_token_id is not None and kind != "bart":
                    assert ids[at] == tokenizer.cls_token_id
            elif pool == "last":
                assert at == len(ids) - 1
                assert kind in DECODERS or ids[at] in (tokenizer.sep_token_id, tokenizer.eos_token_id)
            elif kind in DECODERS:
                tail = len(prepared.encoded[row]) - prepared.encoded[row].slot
                assert at == len(ids) - tail - 1, "a causal model answers from the token in front of the slot"
            else:
                assert ids[at] == backbone.tokens.slot_ids[0]


@over("pooling", [HARD, METHODS[1], METHODS[3]])
def test_a_head_is_layer_norm_and_a_matrix_on_that_state(method: Method, kind: str) -> None:
    """Scores of a head by hand, from the hidden states of the plain model."""
    model = method.build(tiny_backbone(kind), ["yes", "no"], pool="last")
    row = model.encode(EXAMPLES[0])
    table = plain_embeddings(kind, row.ids, row.soft, model.prompt().rows)
    base = tiny_model(kind)
    base = base.get_encoder() if kind in ENCODER_DECODERS else base.base_model
    with torch.no_grad():
        state = base(inputs_embeds=table[None]).last_hidden_state[0, -1]
        normal = (state - state.mean()) / torch.sqrt(state.var(unbiased=False) + 1e-5)
        expected = model.head.linear.weight @ normal + model.head.linear.bias
    torch.testing.assert_close(scores_of(model, [0])[0], expected, **TOLERANCE)


def plain_embeddings(kind: str, ids: Any, soft: Any, rows: Tensor | None) -> Tensor:
    embed = tiny_model(kind).get_input_embeddings()
    return torch.stack(
        [embed(torch.tensor(token)) if at < 0 else rows.detach()[at] for token, at in zip(ids, soft, strict=True)]
    )


@pytest.mark.parametrize("kind", KINDS)
def test_position_ids_are_those_of_the_model_itself(kind: str) -> None:
    """RoBERTa numbers positions from padding_idx + 1 = 2; all others from 0; learned tokens count like any other."""
    backbone = build_backbone(kind)
    seen: list[Tensor] = []
    for name, module in backbone.model.named_modules():
        if name.endswith(("position_embeddings", "wpe", "rotary_emb")):
            module.register_forward_pre_hook(
                lambda module, given, keywords: seen.append(_positions(given, keywords)), with_kwargs=True
            )
    model = METHODS[1].build(backbone, SINGLE)
    prepared = model.prepare(EXAMPLES)
    model.scores(prepared)
    seen.clear()
    model(model.batch(prepared, [1]))
    length = len(model.encode(EXAMPLES[1]))
    if kind in ENCODER_DECODERS:
        assert not seen, "these number positions themselves"
        return
    first = 2 if kind == "roberta" else 0
    assert seen and all(positions.flatten().tolist()[:length] == list(range(first, first + length)) for positions in seen)


def _positions(given: tuple[Any, ...], keywords: dict[str, Any]) -> Tensor:
    found = keywords.get("position_ids", given[-1] if given else None)
    return next(value for value in (found, *given) if isinstance(value, Tensor) and not value.is_floating_point())


# -- 9, 10: limits ---------------------------------------------------------------------------------------------------


@over("positions", LEARNING)
def test_prompt_and_text_beyond_the_positions_is_an_error_that_names_both(method: Method, kind: str) -> None:
    backbone = tiny_backbone(kind)
    config = dict(method.config)
    template = method.template
    if method in DEEP:
        pytest.skip("no token of the text is learned; tests/deep has the limits of learned keys")
    if "num_tokens" in config:
        config["num_tokens"] = 70
    else:
        template = "{soft:70}" + template
    model = replace(method, config=config).build(backbone, template=template)
    with pytest.raises(TemplateError) as caught:
        model.prepare([example("good", "yes")])
    message = str(caught.value)
    assert "7" in message and "learned" in message and "fixed tokens" in message and str(POSITIONS) in message
    with pytest.raises(TemplateError, match=rf"max_length is {POSITIONS + 1}.*has {POSITIONS} positions"):
        method.build(backbone, max_length=POSITIONS + 1)


def model_positions(method: Method, kind: str) -> int:
    """Positions that learned keys take up, in models whose positions can be moved on."""
    if method not in DEEP or kind in ENCODER_DECODERS or "gate" in method.config:
        return 0
    return int(method.config["num_tokens"])


@over("longest text")
def test_the_longest_text_fits_the_positions(method: Method, kind: str) -> None:
    """A text of any length is shortened to what the model's last position allows, the answer included."""
    longest = POSITIONS - model_positions(method, kind)
    model = method.build(tiny_backbone(kind), max_length=longest)
    prepared = model.prepare([example("good " * 200, "yes"), example("bad", "no")])
    assert prepared.num_cut == 1
    assert len(prepared.encoded[0]) + model.answers.max_tokens == longest
    assert torch.isfinite(model.scores(prepared)).all()


@over("gradient", LEARNING)
@pytest.mark.parametrize("labels", [SINGLE, SEVERAL], ids=["one-token", "several-tokens"])
def test_gradients_are_right_in_double_precision(method: Method, kind: str, labels: Any) -> None:
    """Central differences along a few directions."""
    model = method.build(tiny_backbone(kind, dtype=torch.float64), labels)
    parameters = list(model.parameters())
    assert all(parameter.dtype == torch.float64 for parameter in parameters)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():  # away from the encoder's zero output, where most gradients vanish
        for parameter in parameters:
            parameter.add_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * 0.05)
    keeps = [False] if model.why_not_keep() else [False, True]
    for keep_context in keeps:
        prepared = model.prepare(EXAMPLES[:3], keep_context=keep_context)
        batch = model.batch(prepared, range(3))
        model.zero_grad()
        model(batch).loss.backward()
        for parameter in parameters:
            direction = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            exact = float((parameter.grad * direction).sum())
            numeric = _slope(model, batch, parameter, direction * 1e-6) / 2e-6
            assert numeric == pytest.approx(exact, rel=1e-5, abs=1e-7)


@torch.no_grad()
def _slope(model: PromptModel, batch: Any, parameter: Tensor, step: Tensor) -> float:
    start = parameter.clone()
    losses = []
    for sign in (1, -1):
        parameter.copy_(start + sign * step)
        losses.append(float(model(batch).loss))
    parameter.copy_(start)
    return losses[0] - losses[1]


@over("empty text")
def test_empty_text_and_one_example(method: Method, kind: str) -> None:
    model = method.build(tiny_backbone(kind))
    prepared = model.prepare([example("", "yes")])
    outcome = model(model.batch(prepared, [0]))
    assert outcome.scores.shape == (1, 2) and torch.isfinite(outcome.scores).all() and torch.isfinite(outcome.loss)
    for keep_context in [False] if model.why_not_keep() else [False, True]:
        together = model.prepare([example("", "yes"), EXAMPLES[3]], keep_context=keep_context)
        torch.testing.assert_close(model(model.batch(together, [0, 1])).scores[:1], outcome.scores, **TOLERANCE)


@over("one class")
def test_one_class_and_unknown_labels(method: Method, kind: str) -> None:
    with pytest.raises(PtuneError, match="at least two"):
        method.build(tiny_backbone(kind), {"yes": "great"})
    with pytest.raises(PtuneError, match="at least two"):
        method.build(tiny_backbone(kind), ["yes"], pool="cls")
    model = method.build(tiny_backbone(kind))
    outcome = model(model.batch(model.prepare([example("good", None), example("bad", "no")]), [0, 1]))
    assert outcome.loss is None and outcome.scores.shape == (2, 2)


# -- no learned tokens is the plain model ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_hard_is_the_plain_model_exactly(kind: str) -> None:
    """Hidden states bit for bit; logits up to the order of a sum, since only the places that are read are multiplied.

    What scores are made from takes the engine's shorter way, which agrees to 1e-5 as everywhere.
    """
    backbone = tiny_backbone(kind)
    plain = tiny_model(kind, attention="sdpa")
    model = HARD.build(backbone, SINGLE)
    prepared = model.prepare(EXAMPLES)
    for number, row in enumerate(prepared.encoded):
        batch = model.batch(prepared, [number])
        ids = torch.tensor([[*row.ids[: row.slot], *backbone.tokens.slot_ids, *row.ids[row.slot :]]])
        answer = {"decoder_input_ids": torch.tensor([backbone.tokens.decoder_ids])} if kind in ENCODER_DECODERS else {}
        at = row.slot if kind in ENCODERS else -1
        with torch.no_grad():
            expected = plain(input_ids=ids, output_hidden_states=True, **answer)
            states = expected.decoder_hidden_states if answer else expected.hidden_states
            hidden = backbone.hidden(batch.live, model.prompt())
            if batch.decoder is not None:
                hidden = backbone.decoder_hidden(batch.decoder, hidden, batch.live.mask)
            assert torch.equal(hidden, states[-1])
            torch.testing.assert_close(model._read_states(batch), states[-1][:, at], **TOLERANCE)
            logits = backbone.logits(hidden[batch.reads.row, batch.reads.position])[0]
            torch.testing.assert_close(logits, expected.logits[0, at], rtol=1e-6, atol=4e-6)
            words = torch.tensor([word[0] for word in model.answers.ids])
            torch.testing.assert_close(model(batch).scores[0], expected.logits[0, at, words], **TOLERANCE)


@over("plain rows", [METHODS[2], METHODS[3]])
def test_rows_of_words_are_those_words(method: Method, kind: str) -> None:
    """A learned token that holds a word's embedding (Gemma's scale included) is that word, as if it stood in the text."""
    backbone = tiny_backbone(kind)
    model = (
        method.build(backbone, template='{soft:"good"} {text} It was{mask}', labels=SEVERAL)
        if "num_tokens" not in method.config
        else None
    )
    if model is None:
        model = replace(method, config={**method.config, "init": "text", "init_text": "good"}).build(backbone)
    words = [backbone.tokens.ids("good")[i % len(backbone.tokens.ids("good"))] for i in range(model.layout.num_rows)]
    torch.testing.assert_close(model.prompt().rows, backbone.embed(torch.tensor(words)), rtol=0, atol=0)
    prepared = model.prepare(EXAMPLES)
    hard = replace(
        prepared,
        encoded=tuple(
            replace(
                row, ids=tuple(words[s] if s >= 0 else i for i, s in zip(row.ids, row.soft, strict=True)), soft=(-1,) * len(row)
            )
            for row in prepared.encoded
        ),
    )
    with torch.no_grad():
        index = range(len(EXAMPLES))
        torch.testing.assert_close(
            model(model.batch(prepared, index)).scores, model(model.batch(hard, index)).scores, **TOLERANCE
        )
