"""Adapters both ways on the same weights: what ptune writes PEFT opens with equal logits, and the other way round."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import (
    CartridgeConfig,
    CPTConfig,
    MultitaskPromptTuningConfig,
    PrefixTuningConfig,
    PromptEncoderConfig,
    PromptTuningConfig,
    get_peft_model,
)

from peers import LABELS, QUIET, TEMPLATE, assert_same_logits, base, opened, own_logits, task
from ptune.bundle import bundle_of, export_peft, import_prompt
from ptune.errors import BundleError
from tiny import EXAMPLES, tiny_backbone

pytestmark = pytest.mark.filterwarnings(QUIET)

DEEP_KINDS = ["llama", "gpt2", "qwen3", "bert", "roberta"]
SOFT_KINDS = [*DEEP_KINDS, "gemma3", "t5", "bart"]
METHODS: dict[str, tuple[Any, str]] = {
    "front": ({"name": "prompt-tuning", "num_tokens": 3, "placement": "front", "init": "random"}, TEMPLATE),
    "after-bos": ({"name": "prompt-tuning", "num_tokens": 3, "init": "random"}, TEMPLATE),
    "p-tuning": ({"name": "p-tuning", "init": "random"}, "Topic :{soft:2} news{soft id=a}{soft id=a}{text} It was{mask}"),
    "p-tuning-lstm": ({"name": "p-tuning", "encoder": "lstm"}, "{soft:3}{text} It was{mask}"),
}
TASK_TYPE = {"bert": "FEATURE_EXTRACTION", "roberta": "FEATURE_EXTRACTION", "t5": "SEQ_2_SEQ_LM", "bart": "SEQ_2_SEQ_LM"}


def peft_type(kind: str) -> str:
    return TASK_TYPE.get(kind, "CAUSAL_LM")


def is_encoder(kind: str) -> bool:
    return kind in ("bert", "roberta")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", SOFT_KINDS)
def test_peft_opens_a_soft_prompt(kind: str, method: str, tmp_path: Path) -> None:
    model = task(kind, *METHODS[method])
    export_peft(model, tmp_path / "adapter")
    assert_same_logits(model, opened(tmp_path / "adapter", kind), EXAMPLES)


@pytest.mark.parametrize("method", ["prefix-tuning", "p-tuning-v2"])
@pytest.mark.parametrize("kind", DEEP_KINDS)
def test_peft_opens_keys_and_values(kind: str, method: str, tmp_path: Path) -> None:
    model = task(kind, {"name": method, "num_tokens": 4, "init_text": "a good story"})
    export_peft(model, tmp_path / "adapter")
    assert_same_logits(model, opened(tmp_path / "adapter", kind, is_bare=is_encoder(kind)), EXAMPLES)


@pytest.mark.parametrize("num_tokens", [1, 6])
@pytest.mark.parametrize("kind", DEEP_KINDS)
def test_prefix_logits_equal_those_of_peft_in_double_precision(kind: str, num_tokens: int, tmp_path: Path) -> None:
    """The same weights in both, far from zero; 1e-6 of the largest logit leaves nothing to rounding."""
    model = task(kind, {"name": "prefix-tuning", "num_tokens": num_tokens, "init_text": "It was bad"})
    export_peft(model, tmp_path / "adapter")
    double = import_prompt(
        tmp_path / "adapter", backbone=tiny_backbone(kind, dtype=torch.float64), template=TEMPLATE, labels=LABELS
    ).model
    rival = opened(tmp_path / "adapter", kind, is_bare=is_encoder(kind), dtype=torch.float64)
    assert_same_logits(double, rival, EXAMPLES, 1e-6)


@pytest.mark.parametrize("config", [PromptTuningConfig, PromptEncoderConfig])
@pytest.mark.parametrize("kind", SOFT_KINDS)
def test_ptune_reads_a_soft_prompt_of_peft(kind: str, config: Any, tmp_path: Path) -> None:
    torch.manual_seed(1)
    rival = get_peft_model(base(kind), config(task_type=peft_type(kind), num_virtual_tokens=3, **_small(config))).eval()
    rival.save_pretrained(tmp_path)
    read = import_prompt(tmp_path, backbone=tiny_backbone(kind), template=TEMPLATE, labels=LABELS)
    assert read.model.method.name == "prompt-tuning"
    assert_same_logits(read.model, rival, EXAMPLES)


@pytest.mark.parametrize("settings", [{}, {"prefix_projection": True, "encoder_hidden_size": 8}])
@pytest.mark.parametrize("kind", DEEP_KINDS)
def test_ptune_reads_a_prefix_of_peft(kind: str, settings: dict[str, Any], tmp_path: Path) -> None:
    """In double precision, so that no CPU's rounding counts."""
    torch.manual_seed(2)
    double = torch.float64
    config = PrefixTuningConfig(task_type=peft_type(kind), num_virtual_tokens=3, **settings)
    rival = get_peft_model(base(kind, is_bare=is_encoder(kind), dtype=double), config).eval().to(double)
    rival.save_pretrained(tmp_path)
    read = import_prompt(tmp_path, backbone=tiny_backbone(kind, dtype=double), template=TEMPLATE, labels=LABELS)
    assert_same_logits(read.model, rival, EXAMPLES, 1e-6)


@pytest.mark.parametrize("num_frozen", [0, 1])
@pytest.mark.parametrize("kind", ["gpt2", "llama", "qwen3"])
def test_ptune_reads_a_cartridge(kind: str, num_frozen: int, tmp_path: Path) -> None:
    torch.manual_seed(3)
    config = CartridgeConfig(task_type="CAUSAL_LM", num_virtual_tokens=4, num_frozen_tokens=num_frozen)
    rival = get_peft_model(base(kind), config).eval()
    rival.save_pretrained(tmp_path)
    read = import_prompt(tmp_path, backbone=tiny_backbone(kind), template=TEMPLATE, labels=LABELS)
    assert_same_logits(read.model, rival, EXAMPLES)


def test_ptune_reads_a_cpt_prompt(tmp_path: Path) -> None:
    """PEFT keeps the sum of the initial tokens' embeddings and the learned change."""
    kinds = {"cpt_token_ids": [5, 6, 7], "cpt_mask": [1, 1, 1], "cpt_tokens_type_mask": [1, 2, 3]}
    rival = get_peft_model(base("llama"), CPTConfig(task_type="CAUSAL_LM", **kinds)).eval()
    with torch.no_grad():
        rival.prompt_encoder["default"].delta_embedding.weight.normal_()
    rival.save_pretrained(tmp_path)
    read = import_prompt(tmp_path, backbone=tiny_backbone("llama"), template=TEMPLATE, labels=LABELS)
    assert_same_logits(read.model, rival, EXAMPLES)


@pytest.mark.parametrize("task_id", [0, 1])
def test_ptune_reads_each_task_of_a_multitask_prompt(task_id: int, tmp_path: Path) -> None:
    torch.manual_seed(4)
    config = MultitaskPromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3, num_tasks=2, num_ranks=2)
    rival = get_peft_model(base("gpt2"), config).eval()
    with torch.no_grad():
        rival.prompt_encoder["default"].prefix_task_cols.normal_()
        rival.prompt_encoder["default"].prefix_task_rows.normal_()
    rival.save_pretrained(tmp_path)
    read = import_prompt(tmp_path, backbone=tiny_backbone("gpt2"), template=TEMPLATE, labels=LABELS, task_id=task_id)
    forward = rival.forward
    rival.forward = lambda **arguments: forward(**arguments, task_ids=torch.tensor([task_id]))
    assert_same_logits(read.model, rival, EXAMPLES)


@pytest.mark.parametrize(("task_id", "says"), [(None, "no task is named"), (2, "there is no task 2")])
def test_a_multitask_prompt_needs_a_task(task_id: int | None, says: str, tmp_path: Path) -> None:
    config = MultitaskPromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3, num_tasks=2)
    get_peft_model(base("gpt2"), config).save_pretrained(tmp_path)
    with pytest.raises(BundleError, match=says):
        import_prompt(tmp_path, backbone=tiny_backbone("gpt2"), template=TEMPLATE, labels=LABELS, task_id=task_id)


DEEP = ({"name": "prefix-tuning", "num_tokens": 3}, TEMPLATE)
WHOLE = [("gpt2", DEEP), ("bert", DEEP), *((kind, METHODS[name]) for kind in ("gpt2", "bert", "t5") for name in METHODS)]


@pytest.mark.parametrize(("kind", "given"), WHOLE)
def test_a_task_comes_back_whole(kind: str, given: tuple[Any, str], tmp_path: Path) -> None:
    """With the card beside it: template, label words, calibration, rows in their order, and the run's facts."""
    model = task(kind, *given)
    model.prior.copy_(torch.tensor([0.5, -0.25]))
    export_peft(model, tmp_path / "adapter", facts={"seed": 7})
    back = import_prompt(tmp_path / "adapter", backbone=tiny_backbone(kind))
    assert back.facts == {"seed": 7}
    first, second = bundle_of(model, {}), bundle_of(back.model, {})
    assert first.card == second.card
    assert first.tensors.keys() == second.tensors.keys()
    for name, value in first.tensors.items():
        assert torch.equal(value, second.tensors[name]), name
    expected, got = (one.scores(one.prepare(EXAMPLES)) for one in (model, back.model))
    assert torch.equal(expected, got)


def test_a_card_is_left_aside_for_a_template_of_the_users(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    export_peft(task("gpt2", *METHODS["front"]), tmp_path / "adapter")
    read = import_prompt(tmp_path / "adapter", backbone=tiny_backbone("gpt2"), template="{text} so{mask}", labels=LABELS)
    assert str(read.model.template) == "{soft:3}{text} so{mask}"
    assert "prompt_card.json is left aside" in caplog.text


def test_a_task_of_another_backbone_is_refused_with_both_names(tmp_path: Path) -> None:
    export_peft(task("gpt2", *METHODS["front"]), tmp_path / "adapter")
    with pytest.raises(BundleError, match=r"made for tiny-gpt2 .* this backbone is tiny-llama"):
        import_prompt(tmp_path / "adapter", backbone=tiny_backbone("llama"))


def test_learned_tokens_behind_the_text_are_refused_or_forced(tmp_path: Path) -> None:
    model = task("gpt2", "p-tuning", "{text}{soft:3} It was{mask}")
    with pytest.raises(BundleError, match=r"their place: learned tokens stand behind \{text\}, which differs .*--force"):
        export_peft(model, tmp_path / "adapter")
    assert not (tmp_path / "adapter").exists()
    done = export_peft(model, tmp_path / "adapter", force=True)
    assert any("their place" in lost for lost in done.lost)
    rival = opened(tmp_path / "adapter", "gpt2")
    assert torch.equal(rival.prompt_encoder["default"].embedding.weight, model.prompt().rows)


@pytest.mark.parametrize(
    ("method", "template", "settings", "says"),
    [
        ("hard", TEMPLATE, {}, "nothing is learned"),
        ({"name": "prompt-tuning", "placement": "front"}, TEMPLATE, {"candidates": 2}, "an ensemble of 2 prompts"),
        ({"name": "prompt-tuning", "placement": "front"}, TEMPLATE, {"tune": "lm-head"}, "the language model's own weights"),
        ("p-tuning", "{text} It was{mask}{soft:2}", {}, r"behind \{text\}"),
        ("p-tuning", "It is{mask}{soft:2}{text}", {}, "behind the answer"),
        ({"name": "prefix-tuning", "gate": True}, TEMPLATE, {}, "the gates"),
        ({"name": "p-tuning-v2", "placement": "behind"}, TEMPLATE, {}, "a place behind the text"),
    ],
)
def test_what_peft_would_compute_differently_is_refused(
    method: Any, template: str, settings: dict[str, Any], says: str, tmp_path: Path
) -> None:
    with pytest.raises(BundleError, match=says):
        export_peft(task("gpt2", method, template, **settings), tmp_path / "adapter")


@pytest.mark.parametrize("kind", ["distilbert", "modernbert", "albert"])
def test_a_prefix_on_a_model_that_peft_cannot_prefix_is_refused(kind: str, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="which PEFT refuses"):
        export_peft(task(kind, {"name": "p-tuning-v2", "num_tokens": 2}), tmp_path / "adapter")


def test_segments_in_front_of_a_learned_token_are_refused(tmp_path: Path) -> None:
    """BERT's segment ids begin anew behind a separator; PEFT gives virtual tokens segment 0."""
    with pytest.raises(BundleError, match="behind a separator"):
        export_peft(task("bert", "p-tuning", "Topic{sep}{soft:2}{text} It was{mask}"), tmp_path / "adapter")


def test_gemma_windows_are_told_of_and_short_texts_are_equal(tmp_path: Path) -> None:
    model = task("gemma3", {"name": "prefix-tuning", "num_tokens": 2}, "{text}{mask}")
    done = export_peft(model, tmp_path / "adapter")
    assert any("sliding layers' 8 tokens" in lost for lost in done.lost)
    short = [example for example, row in zip(EXAMPLES, model.prepare(EXAMPLES).encoded, strict=True) if len(row) <= 6]
    assert short
    assert_same_logits(model, opened(tmp_path / "adapter", "gemma3"), short)


def _small(config: Any) -> dict[str, Any]:
    return {"encoder_hidden_size": 8} if config is PromptEncoderConfig else {}


def test_logits_of_rows_are_compared_where_the_text_stands() -> None:
    """Guards the helper: the virtual tokens' places are cut off, the text's own are all there."""
    model = task("gpt2", *METHODS["after-bos"])
    prepared = model.prepare(EXAMPLES)
    assert len(own_logits(model, prepared, 0)) == len(prepared.encoded[0]) - 4
