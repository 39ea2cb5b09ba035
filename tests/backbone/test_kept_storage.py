"""Where kept contexts lie: in memory up to a budget, in a temporary file beyond it, halved in bf16; found by content."""

import errno
import gc
import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import ptune
from ptune.backbone import KeptContexts, context_bytes
from ptune.backbone.kept import _groups
from ptune.errors import BackboneError
from ptune.model import PromptModel
from ptune.train import TrainSettings, train
from tiny import EXAMPLES, build_backbone, example, tiny_backbone

TEMPLATE, WORDS = "{text}{soft:3} It was{mask}", {"yes": "great", "no": ["bad", "不喜欢"]}
PREFIXES = [tuple(range(5, 5 + length)) for length in (4, 9, 6, 0, 9, 7)]


def test_a_budget_moves_the_rest_into_a_file_and_changes_no_number() -> None:
    backbone = tiny_backbone("llama")
    total = context_bytes(backbone, 4 + 9 + 6 + 7)
    free, tight = KeptContexts(backbone, PREFIXES), KeptContexts(backbone, PREFIXES, memory=total // 4)
    assert free.num_bytes_in_file == 0
    assert total // 2 < tight.num_bytes_in_file <= total - total // 8
    for index in ([0, 1], [3, 2, 5], [4, 1, 0]):
        one, other = (kept.context([PREFIXES[i] for i in index]) for kept in (free, tight))
        assert torch.equal(one.keys, other.keys) and torch.equal(one.values, other.values)
        assert torch.equal(one.mask, other.mask)


def test_nothing_is_left_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    kept = KeptContexts(tiny_backbone("llama"), PREFIXES, memory=1)
    assert kept.num_bytes_in_file > 0 and list(tmp_path.iterdir()) == []
    del kept
    gc.collect()


def test_a_full_disk_is_an_error_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sparse file would take the mapping and end the process at the first page that the disk has no room for."""

    def refuse(handle: int, offset: int, size: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(os, "posix_fallocate", refuse, raising=False)
    with pytest.raises(BackboneError, match=r"no room for 1 MiB.*No space left.*TMPDIR.*context_memory.*keep_context") as error:
        KeptContexts(tiny_backbone("llama"), PREFIXES, memory=1)
    assert error.value.where == str(tmp_path) and list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="the system reserves no room")
def test_room_in_the_file_is_reserved(monkeypatch: pytest.MonkeyPatch) -> None:
    reserved: list[int] = []
    monkeypatch.setattr(os, "posix_fallocate", lambda handle, offset, size: reserved.append(size))
    kept = KeptContexts(tiny_backbone("llama"), PREFIXES, memory=1)
    assert len(reserved) == 1 and reserved[0] >= kept.num_bytes_in_file > 0


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.EINVAL])
def test_a_file_system_that_reserves_nothing_is_used_as_it_is(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(handle: int, offset: int, size: int) -> None:
        raise OSError(number, "cannot")

    monkeypatch.setattr(os, "posix_fallocate", refuse, raising=False)
    assert KeptContexts(tiny_backbone("llama"), PREFIXES, memory=1).num_bytes_in_file > 0


def test_without_memory_and_texts_nothing_is_held() -> None:
    backbone = tiny_backbone("llama")
    kept, all_at_once = KeptContexts(backbone, [], memory=0), KeptContexts(backbone, PREFIXES)
    for _ in range(2):
        context, other = (one.context([PREFIXES[i] for i in (1, 3, 0)]) for one in (kept, all_at_once))
        torch.testing.assert_close(context.keys, other.keys, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(context.values, other.values, rtol=1e-6, atol=1e-6)
        assert torch.equal(context.mask, other.mask)
        assert kept.holds_nothing and kept.num_bytes_in_file == 0
    assert not all_at_once.holds_nothing and not KeptContexts(backbone, []).holds_nothing


@pytest.mark.parametrize("share", [1.0, 0.25])
def test_training_over_the_budget_has_the_same_losses(share: float) -> None:
    """A budget of a quarter of what is needed, set in the model's own settings."""
    backbone = tiny_backbone("gemma3")
    model = PromptModel.build(backbone=backbone, template=TEMPLATE, labels=WORDS)
    needed = context_bytes(backbone, sum(row.split for row in model.prepare(EXAMPLES).encoded))
    plain, other = (
        model.prepare(EXAMPLES, keep_context=True),
        model.prepare(EXAMPLES, keep_context=True, memory=int(share * needed)),
    )
    assert (other.contexts.num_bytes_in_file > 0) == (share < 1)
    settings = TrainSettings(steps=6, batch_size=2)
    losses = []
    for rows in (plain, other):
        fresh = PromptModel.build(backbone=backbone, template=TEMPLATE, labels=WORDS)
        losses.append(train(fresh, rows, settings, seed=3).losses)
    assert losses[0] == losses[1]


def test_a_recipe_over_its_budget_says_so_and_has_the_same_trace(caplog: pytest.LogCaptureFixture) -> None:
    """context_memory is in MiB: long texts of a backbone with wide heads."""
    rows = [
        {"text": f"{word} film " * 14, "label": label}
        for label, words in {"yes": "great good", "no": "bad mediocre"}.items()
        for word in words.split()
    ]
    given: dict[str, Any] = {
        "train": rows * 40,
        "template": TEMPLATE,
        "labels": WORDS,
        "backbone": tiny_backbone("llama"),
        "steps": 25,  # more than a pass over the rows, so that keeping is of use
    }
    free = ptune.fit(**given)
    assert "temporary file" not in caplog.text
    distinct = [{**row, "text": f"{row['text']} {number}"} for number, row in enumerate(rows * 40)]
    free = ptune.fit(**{**given, "train": distinct})
    tight = ptune.fit(**{**given, "train": distinct}, context_memory=1)
    assert "are over context_memory and go into a temporary file" in caplog.text
    assert tight.facts["training"]["last_loss"] == free.facts["training"]["last_loss"]


def test_bf16_halves_them_at_a_small_cost() -> None:
    backbone = tiny_backbone("llama")
    exact, half = KeptContexts(backbone, PREFIXES), KeptContexts(backbone, PREFIXES, dtype="bf16")
    one, other = exact.context(PREFIXES), half.context(PREFIXES)
    assert other.keys.dtype == torch.float32
    torch.testing.assert_close(other.keys, one.keys, rtol=1e-2, atol=1e-2)
    assert not torch.equal(other.keys, one.keys)
    assert context_bytes(backbone, 10, "bf16") * 2 == context_bytes(backbone, 10)


def test_contexts_are_found_by_their_tokens_not_by_their_place() -> None:
    backbone = tiny_backbone("llama")
    kept = KeptContexts(backbone, [PREFIXES[1]])
    new = (7, 8, 9)
    assert torch.equal(kept.context([new]).keys, KeptContexts(backbone, [new]).context([new]).keys)
    changed = (*PREFIXES[1][:-1], 40)
    assert not torch.equal(kept.context([changed]).keys, kept.context([PREFIXES[1]]).keys)


def test_contexts_of_another_model_are_refused() -> None:
    model = PromptModel.build(backbone=tiny_backbone("llama"), template=TEMPLATE, labels=WORDS)
    rows = model.prepare([example("good"), example("bad")], keep_context=True)
    other_backbone = build_backbone("llama")
    other_backbone.model.get_input_embeddings().weight.data.mul_(1.5)
    again = type(other_backbone)(other_backbone.model, other_backbone.tokens.tokenizer, name="other")
    other = PromptModel.build(backbone=again, template=TEMPLATE, labels=WORDS)
    with pytest.raises(BackboneError, match="another model"):
        other.batch(rows, [0, 1])


@given(lengths=st.lists(st.integers(1, 3000), max_size=60))
def test_groups_hold_all_texts_in_order_with_little_padding(lengths: list[int]) -> None:
    prefixes = [(number,) * length for number, length in enumerate(sorted(lengths))]
    groups = list(_groups(prefixes))
    assert [one for group in groups for one in group] == prefixes and all(groups)
    for group in groups:
        assert sum(len(group[-1]) - len(one) for one in group) <= 80
        assert len(group) == 1 or len(group) * len(group[-1]) <= 2048
    for group, after in pairwise(groups):  # no group ends without a reason
        longest, num = len(after[0]), len(group) + 1
        assert sum(longest - len(one) for one in group) > 80 or num * longest > 2048


def test_a_text_that_came_later_has_its_context_too() -> None:
    backbone = tiny_backbone("llama")
    total = context_bytes(backbone, sum(map(len, PREFIXES)))
    tight = KeptContexts(backbone, PREFIXES, memory=total // 2)
    assert tight.num_bytes_in_file > 0
    for number in range(40):  # more than the file has room for
        new = (*range(3, 20 + number % 5), number + 3)
        assert torch.equal(tight.context([new]).keys, KeptContexts(backbone, [new]).context([new]).keys)


def test_of_a_beginning_only_the_newest_reading_is_held() -> None:
    words = {"labels": {"yes": ["great"], "no": ["bad"]}, "method": "p-tuning"}
    front = PromptModel.build(backbone=tiny_backbone("llama"), template="{soft:9} It says : {text}{mask}", **words)
    behind = PromptModel.build(backbone=tiny_backbone("llama"), template="All in all it was : {text}{soft:3}{mask}", **words)
    for model, changes in ((front, True), (behind, False)):
        before = model.scores(model.prepare(EXAMPLES))
        first, held = model._leads.num_bytes, tuple(model._leads._stored.values())
        with torch.no_grad():
            for parameter in model.prompt.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
        after = model.scores(model.prepare(EXAMPLES))
        assert not torch.equal(before, after) and model._leads.num_bytes == first > 0
        ((_, old),), ((_, new),) = held, model._leads._stored.values()
        assert (old is not new) == changes  # what learns is not in front of the second one's text
