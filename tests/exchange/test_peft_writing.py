"""Written texts: a prompt of PEFT's imported for generation writes what PEFT's own `generate` writes, greedily and with beams.

PEFT gets one unpadded text at a time (its left padding is wrong, see test_peft_bugs.py); ptune writes all of them together.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PrefixTuningConfig, PromptEncoderConfig, PromptTuningConfig, get_peft_model

from peers import QUIET, base, num_in_front, opened
from ptune.bundle import bundle_of, export_peft, import_prompt, model_of, read_bundle
from ptune.model import GenerationModel
from tiny import EXAMPLES, tiny_backbone

pytestmark = [
    pytest.mark.filterwarnings(QUIET),
    pytest.mark.filterwarnings("ignore:Position ids are not supported:UserWarning"),  # each step of PEFT's generate says so
]

NUM_NEW = 8
CONFIGS: dict[str, tuple[Any, dict[str, Any]]] = {
    "prompt": (PromptTuningConfig, {}),
    "p-tuning": (PromptEncoderConfig, {"encoder_hidden_size": 8}),
    "prefix": (PrefixTuningConfig, {}),
}


def written_by_peft(rival: Any, ids: list[int], num_beams: int) -> list[int]:
    given = torch.tensor([ids])
    with torch.no_grad():
        out = rival.generate(
            input_ids=given,
            attention_mask=torch.ones_like(given),
            max_new_tokens=NUM_NEW,
            do_sample=False,
            num_beams=num_beams,
            eos_token_id=rival.config.eos_token_id,
            pad_token_id=rival.config.eos_token_id,
        )[0]
    new: list[int] = out[len(ids) :].tolist() if len(out) > len(ids) else out.tolist()
    ends = [place for place, token in enumerate(new) if token == rival.config.eos_token_id]
    return new[: ends[0]] if ends else new


@pytest.mark.parametrize("num_beams", [1, 3])
@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("kind", ["gpt2", "llama", "qwen3"])
def test_an_imported_prompt_writes_the_same(kind: str, config: str, num_beams: int, tmp_path: Path) -> None:
    torch.manual_seed(17)
    made, settings = CONFIGS[config]
    rival = get_peft_model(base(kind), made(task_type="CAUSAL_LM", num_virtual_tokens=3, **settings)).eval()
    rival.save_pretrained(tmp_path / "adapter")
    read = import_prompt(tmp_path / "adapter", backbone=tiny_backbone(kind), task="generation", template="{text}{mask}").model
    assert isinstance(read, GenerationModel)
    bundle_of(read, {}).write(tmp_path / "bundle")
    read = model_of(read_bundle(tmp_path / "bundle"), tiny_backbone(kind))
    num_front = 0 if config == "prefix" else 3
    ours = read.write(EXAMPLES, read.settings_of({"max_new_tokens": NUM_NEW, "beams": num_beams, "length_penalty": 1.0}))
    for example, answers in zip(EXAMPLES, ours, strict=True):
        theirs = written_by_peft(rival, list(read.encode(example).ids[num_front:]), num_beams)
        assert [token for token in answers[0].ids if token != rival.config.eos_token_id] == theirs


@pytest.mark.parametrize(
    "method", [{"name": "prompt-tuning", "num_tokens": 3, "init": "random"}, {"name": "p-tuning-v2", "num_tokens": 3}]
)
@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_a_task_that_writes_is_exported(kind: str, method: dict[str, Any], tmp_path: Path) -> None:
    model = GenerationModel.build(
        backbone=tiny_backbone(kind), template="{text} so{mask}", method=method, max_new_tokens=NUM_NEW, seed=2
    )
    done = export_peft(model, tmp_path / "adapter")
    assert "CAUSAL_LM" in done.what
    rival = opened(tmp_path / "adapter", kind)
    ours = model.write(EXAMPLES, model.settings_of({}))
    for example, answers in zip(EXAMPLES, ours, strict=True):
        ids = list(model.encode(example).ids[num_in_front(model) :])
        assert [token for token in answers[0].ids if token != rival.config.eos_token_id] == written_by_peft(rival, ids, 1)
    back = import_prompt(tmp_path / "adapter", backbone=tiny_backbone(kind)).model
    assert [str(one) for one in back.predict(EXAMPLES)] == [str(one) for one in model.predict(EXAMPLES)]
