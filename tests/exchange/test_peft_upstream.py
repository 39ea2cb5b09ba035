"""What the `peft` package tests about learned prompts, asked of ptune in its own words.

Upstream file -> here: testing_common.py (training, saving, loading, several adapters, half precision), test_decoder_models.py
(initialisation, grouped heads, positions, a short training), test_encoder_decoder_models.py and test_seq_classifier.py (labels,
heads), regression/test_state_dict.py (what files hold), test_gpu_examples.py (reproducibility). Not here: merging, unloading,
input embeddings, device maps, which ptune does not have; test_peft_exchange.py reads cartridges, multitask prompts and CPT.
"""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

import ptune
from peers import LABELS, TEMPLATE, task
from ptune.backbone import load_backbone
from ptune.bundle import bundle_of, model_of, read_bundle
from ptune.errors import PromptError
from ptune.model import PromptModel
from ptune.task import Task
from tiny import EXAMPLES, build_backbone, tiny_backbone, tiny_model, tiny_tokenizer

KINDS = ["bert", "roberta", "gpt2", "llama", "qwen3", "t5", "bart"]
METHODS: dict[str, tuple[Any, str]] = {
    "prompt-tuning": ({"name": "prompt-tuning", "num_tokens": 4}, TEMPLATE),
    "p-tuning": ("p-tuning", "{text}{soft:4} It was{mask}"),
    "p-tuning-mlp": ({"name": "p-tuning", "encoder": "mlp"}, "{text}{soft:4} It was{mask}"),
    "p-tuning-lstm": ({"name": "p-tuning", "encoder": "lstm"}, "{text}{soft:4} It was{mask}"),
    "prefix-tuning": ({"name": "prefix-tuning", "num_tokens": 4}, TEMPLATE),
    "p-tuning-v2": ({"name": "p-tuning-v2", "num_tokens": 4}, TEMPLATE),
}
both = pytest.mark.parametrize(
    ("kind", "method"), [(kind, method) for kind in KINDS for method in METHODS], ids=lambda value: str(value)
)


# -- training --------------------------------------------------------------------------------------------------------


@both
def test_every_parameter_of_the_prompt_learns_and_nothing_else(kind: str, method: str) -> None:
    model = task(kind, *METHODS[method])
    with torch.no_grad():  # an encoder's last layer starts at zero, and would hide the others
        for parameter in model.prompt.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.1)
    outcome = model(model.batch(model.prepare(EXAMPLES), range(5)))
    assert outcome.loss.isfinite() and outcome.scores.shape == (5, 2)
    outcome.loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
    assert not any(weight.requires_grad or weight.grad is not None for weight in model.backbone.model.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_embeddings_of_the_text_ask_for_no_gradient(kind: str) -> None:
    assert not tiny_backbone(kind).embed(torch.tensor([[5, 6, 7]])).requires_grad


@pytest.mark.parametrize("kind", ["llama", "qwen3"])
@pytest.mark.parametrize("method", ["prefix-tuning", "p-tuning-v2"])
def test_five_steps_of_training_lower_the_loss(kind: str, method: str) -> None:
    losses: list[float] = []
    ptune.fit(
        backbone=tiny_backbone(kind),
        train=[{"text": one.fields["text"], "label": one.label} for one in EXAMPLES],
        template=TEMPLATE,
        labels=LABELS,
        method={"name": method, "num_tokens": 4},
        steps=5,
        batch_size=5,
        listeners=[lambda event: losses.append(event.loss) if event.kind == "step" else None],
    )
    assert len(losses) == 5 and all(after < before for before, after in itertools.pairwise(losses))


@pytest.mark.parametrize("kind", ["llama", "qwen3"])
def test_a_prefix_has_the_key_heads_of_grouped_attention(kind: str) -> None:
    """As many numbers as the cache of the plain model has for as many tokens."""
    plain = tiny_model(kind)
    cache = plain(torch.tensor([[5, 6, 7, 8]]), use_cache=True).past_key_values
    model = task(kind, METHODS["p-tuning-v2"][0])
    prefix = model.prompt().prefixes["text"]
    assert [keys.shape for keys in prefix.keys] == [layer.keys.shape for layer in cache.layers]
    assert model.num_trained == sum(layer.keys.numel() + layer.values.numel() for layer in cache.layers)


@pytest.mark.parametrize(("kind", "first"), [("gpt2", 4), ("llama", 4), ("bert", 4), ("roberta", 6)])
def test_the_text_s_positions_begin_behind_the_prefix(kind: str, first: int) -> None:
    """RoBERTa counts from its padding id + 1."""
    backbone = build_backbone(kind)
    seen: list[torch.Tensor] = []
    trunk = backbone.model.base_model
    trunk.register_forward_pre_hook(lambda module, args, kwargs: seen.append(kwargs["position_ids"]), with_kwargs=True)
    model = PromptModel.build(backbone=backbone, template=TEMPLATE, labels=LABELS, method=METHODS["p-tuning-v2"][0])
    seen.clear()
    model(model.batch(model.prepare(EXAMPLES[:1]), [0]))
    assert seen[-1][0].tolist() == list(range(first, first + seen[-1].shape[1]))


# -- initialisation --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_tokens", [2, 9])
def test_a_text_initialisation_is_cut_or_repeated(kind: str, num_tokens: int) -> None:
    """By its own tokens alone: no start or end token, which PEFT repeats along."""
    backbone, text = tiny_backbone(kind), "a good film"
    rows = task(kind, {"name": "prompt-tuning", "num_tokens": num_tokens, "init_text": text}).prompt().rows
    ids = backbone.tokens.ids(text)
    expected = backbone.embed(torch.tensor([ids[number % len(ids)] for number in range(num_tokens)]))
    assert torch.equal(rows, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_the_vocabulary_are_rows_of_words(kind: str) -> None:
    backbone = tiny_backbone(kind)
    rows = task(kind, {"name": "prompt-tuning", "num_tokens": 6, "init": "vocabulary"}).prompt().rows
    words = backbone.embed(torch.tensor(backbone.tokens.frequent_words()))
    chosen = [int((words == row).all(1).nonzero()[0]) for row in rows]
    assert len(set(chosen)) == 6


@pytest.mark.parametrize(
    ("method", "says"),
    [
        ({"name": "prompt-tuning", "init": "text"}, "init: text needs init_text"),
        ({"name": "prompt-tuning", "num_tokens": 0}, "greater than or equal to 1"),
        ({"name": "prompt-tuning", "init": "zeros"}, "init"),
        ({"name": "p-tuning", "encoder": "transformer"}, "encoder"),
        ({"name": "prefix-tuning", "init": "text"}, "init: text needs init_text"),
        ({"name": "prefix-tuning", "prefix_projection": True}, "prefix_projection"),
        ({"name": "prefix-tunning"}, "did you mean prefix-tuning"),
    ],
)
def test_settings_that_make_no_sense_are_refused(method: dict[str, Any], says: str) -> None:
    with pytest.raises(PromptError, match=says):
        task("gpt2", method)


def test_code_beside_a_model_is_not_run(tmp_path: Path) -> None:
    """PEFT strips `trust_remote_code` from a prompt's file; ptune never asks for it, whatever a model folder says."""
    folder = tmp_path / "model"
    tiny_model("gpt2").save_pretrained(folder)
    tiny_tokenizer("gpt2").save_pretrained(folder)
    (folder / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "mine.Config", "AutoModelForCausalLM": "mine.Model"}
    (folder / "config.json").write_text(json.dumps(config))
    assert load_backbone(str(folder)).spec.architecture == "gpt2"
    assert not (tmp_path / "ran").exists()


# -- what files hold -------------------------------------------------------------------------------------------------


SHAPES: dict[str, Callable[[PromptModel], dict[str, list[int]]]] = {
    "prompt-tuning": lambda model: {"rows": [4, 32]},
    "p-tuning": lambda model: {"rows": [4, 32]},
    "p-tuning-mlp": lambda model: {"rows": [4, 32]},
    "p-tuning-lstm": lambda model: {"rows": [4, 32]},
    "prefix-tuning": lambda model: deep_shapes(model),
    "p-tuning-v2": lambda model: deep_shapes(model),
}


def deep_shapes(model: PromptModel) -> dict[str, list[int]]:
    stacks = {place: stack.spec for place, stack in model.backbone.stacks.items()}
    return {f"deep.{place}": [2, spec.num_layers, spec.num_heads, 4, spec.head_size] for place, spec in stacks.items()}


@both
def test_a_bundle_holds_these_tensors_and_no_others(kind: str, method: str, tmp_path: Path) -> None:
    """Names and shapes are a promise: files that were written yesterday are read tomorrow."""
    model = task(kind, *METHODS[method])
    bundle_of(model, {}).write(tmp_path / "bundle")
    with safe_open(tmp_path / "bundle" / "prompt.safetensors", "pt") as file:
        held = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    assert held == {"prior": [2], **SHAPES[method](model)}
    names = {path.name for path in (tmp_path / "bundle").iterdir()}
    assert {"bundle.json", "prompt.safetensors"} <= names <= {"bundle.json", "prompt.safetensors", "README.md"}
    assert (tmp_path / "bundle" / "prompt.safetensors").stat().st_size < 20_000


@both
def test_saved_loaded_and_saved_again_is_the_same(kind: str, method: str, tmp_path: Path) -> None:
    """Also under another folder's name, and with the scores to the last bit, whatever made the prompt."""
    model = task(kind, *METHODS[method], seed=5)
    bundle_of(model, {"seed": 5}).write(tmp_path / "first")
    loaded = model_of(read_bundle(tmp_path / "first"), tiny_backbone(kind))
    bundle_of(loaded, {"seed": 5}).write(tmp_path / "other" / "name")
    for file in ("bundle.json", "prompt.safetensors"):
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "other" / "name" / file).read_bytes()
    expected, got = (one.scores(one.prepare(EXAMPLES)) for one in (model, loaded))
    assert torch.equal(expected, got)


def test_unknown_keys_of_a_newer_card_do_no_harm(tmp_path: Path) -> None:
    model = task("gpt2", *METHODS["p-tuning"])
    bundle_of(model, {}).write(tmp_path / "bundle")
    card = json.loads((tmp_path / "bundle" / "bundle.json").read_text("utf-8"))
    card["made_later"], card["task"]["made_later"], card["backbone"]["made_later"] = 1, 2, 3
    (tmp_path / "bundle" / "bundle.json").write_text(json.dumps(card))
    loaded = ptune.load(tmp_path / "bundle", backbone=tiny_backbone("gpt2"))
    assert torch.equal(loaded.model.prompt().rows, model.prompt().rows)
    assert loaded.facts["made_later"] == 1


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
@pytest.mark.parametrize("method", ["prompt-tuning", "prefix-tuning"])
def test_a_head_is_trained_saved_and_loaded(kind: str, method: str, tmp_path: Path) -> None:
    pool = {"bert": "cls", "gpt2": "last"}[kind]
    model = PromptModel.build(
        backbone=tiny_backbone(kind), template="{text}", labels=["yes", "no"], method=METHODS[method][0], pool=pool
    )
    model(model.batch(model.prepare(EXAMPLES), range(5))).loss.backward()
    assert all(parameter.grad is not None for parameter in model.head.parameters())
    bundle_of(model, {}).write(tmp_path / "bundle")
    loaded = model_of(read_bundle(tmp_path / "bundle"), tiny_backbone(kind))
    assert all(torch.equal(value, loaded.head.state_dict()[name]) for name, value in model.head.state_dict().items())


# -- several tasks, half precision -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_tasks_on_one_backbone_do_not_know_each_other(kind: str) -> None:
    """Added, used in turns and thrown away: each scores as it did alone, and the model as if none had been there."""
    backbone = build_backbone(kind)
    before = {name: value.clone() for name, value in backbone.model.state_dict().items()}
    models = [
        PromptModel.build(backbone=backbone, template=template, labels=LABELS, method=method, seed=number)
        for number, (method, template) in enumerate(METHODS.values())
    ]
    alone = [task(kind, method, template, seed=number) for number, (method, template) in enumerate(METHODS.values())]
    for _ in range(2):
        for model, other in zip(models, alone, strict=True):
            assert torch.equal(model.scores(model.prepare(EXAMPLES)), other.scores(other.prepare(EXAMPLES)))
    plain = PromptModel.build(backbone=backbone, template=TEMPLATE, labels=LABELS, method="hard")
    assert torch.equal(plain.scores(plain.prepare(EXAMPLES)), task(kind, "hard").scores(plain.prepare(EXAMPLES)))
    assert all(torch.equal(value, before[name]) for name, value in backbone.model.state_dict().items())


@pytest.mark.parametrize("kind", ["bert", "gpt2", "llama", "qwen3", "t5"])
@pytest.mark.parametrize("method", METHODS)
def test_a_prompt_in_single_precision_serves_a_model_in_half(kind: str, method: str, tmp_path: Path) -> None:
    single = task(kind, *METHODS[method])
    bundle_of(single, {}).write(tmp_path / "bundle")
    half = build_backbone(kind, dtype=torch.bfloat16)
    loaded = Task(model_of(read_bundle(tmp_path / "bundle"), half))
    state = loaded.model.prompt()
    learned = [state.rows] if state.rows is not None else [state.prefixes["text"].keys[0]]
    assert all(value.dtype == torch.float32 for value in learned)
    texts = [one.fields["text"] for one in EXAMPLES]
    rough, exact = loaded.predict(texts), Task(single).predict(texts)
    for one, other in zip(rough, exact, strict=True):
        assert one.probabilities["yes"] == pytest.approx(other.probabilities["yes"], abs=0.15)
