"""Continued pre-training: its losses are transformers' own, it lowers them on texts held out, and it writes a backbone."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

import ptune
from ptune.backbone import load_backbone
from ptune.errors import PtuneError
from ptune.model import LanguageModel
from ptune.strategy import AdaptSettings, adapt
from tiny import tiny_backbone, tiny_model

SUBJECTS = ("film", "story", "cast", "plot", "food", "service", "place", "day")
TEXTS = [
    {"text": f"The {first} was {word} and the {second} was {word} ."}
    for first in SUBJECTS
    for second in SUBJECTS
    for word in ("great", "bad", "good")
    if first != second
]
QUICK = AdaptSettings(epochs=3, learning_rate=3e-3, max_length=24)


@pytest.mark.parametrize("kind", ["gpt2", "llama", "gemma3"])
def test_the_loss_of_next_tokens_is_the_models_own(kind: str) -> None:
    backbone = tiny_backbone(kind)
    model = LanguageModel(backbone)
    rows = model.prepare(["The film was great .", "It was bad , the plot was bad ."], max_length=32)
    batch = model.batch(rows, [0, 1])
    labels = batch.live.ids.masked_fill(~batch.live.mask, -100)
    own = tiny_model(kind)(input_ids=batch.live.ids, attention_mask=batch.live.mask.long(), labels=labels)
    loss = model(batch).loss
    assert loss is not None
    assert loss.item() == pytest.approx(own.loss.item(), rel=1e-5)
    assert model.mean_loss(rows) == pytest.approx(own.loss.item(), rel=1e-5)


@pytest.mark.parametrize("kind", ["bert", "roberta", "modernbert", "distilbert"])
def test_the_loss_of_hidden_tokens_is_the_models_own(kind: str) -> None:
    model = LanguageModel(tiny_backbone(kind))
    rows = model.prepare(["The film was great .", "It was bad , the plot was bad ."], max_length=32)
    torch.manual_seed(3)
    batch = model.batch(rows, [0, 1])
    labels = torch.full_like(batch.live.ids, -100)
    assert batch.reads.item_token is not None
    labels[batch.reads.row, batch.reads.position] = batch.reads.item_token
    own = tiny_model(kind)(input_ids=batch.live.ids, attention_mask=batch.live.mask.long(), labels=labels)
    loss = model(batch).loss
    assert loss is not None
    assert loss.item() == pytest.approx(own.loss.item(), rel=1e-4)


def test_what_is_hidden_and_how() -> None:
    """15 % of the tokens, at least one a row, never a special one; 80 % of them as the mask, 10 % as any token."""
    model = LanguageModel(tiny_backbone("bert"))
    tokens = model.backbone.tokens
    rows = model.prepare([" ".join(["film"] * 50)] * 400, max_length=60)
    torch.manual_seed(0)
    batch = model.batch(rows, range(400))
    (film,) = tokens.ids("film")
    assert batch.reads.item_token is not None
    assert set(batch.reads.item_token.tolist()) == {film}
    assert len(batch.reads.row) / (400 * 50) == pytest.approx(0.15, abs=0.01)
    shown = batch.live.ids[batch.reads.row, batch.reads.position]
    share = {name: float((shown == index).float().mean()) for name, index in (("mask", tokens.slot_ids[0]), ("film", film))}
    assert share["mask"] == pytest.approx(0.8, abs=0.03)
    assert share["film"] == pytest.approx(0.1, abs=0.03)
    untouched = torch.ones_like(batch.live.ids, dtype=torch.bool)
    untouched[batch.reads.row, batch.reads.position] = False
    assert torch.equal(
        batch.live.ids[untouched & batch.live.mask].unique(), torch.tensor(sorted({*tokens.start_ids, *tokens.end_ids, film}))
    )
    short = model.prepare(["film"] * 30, max_length=60)
    assert torch.bincount(model.batch(short, range(30)).reads.row).tolist() == [1] * 30
    assert not torch.equal(model.batch(rows, [0]).reads.position, model.batch(rows, [0]).reads.position)
    assert model.mean_loss(rows) == model.mean_loss(rows)


def test_long_texts_become_several_rows() -> None:
    model = LanguageModel(tiny_backbone("bert"))
    rows = model.prepare(["film " * 50, "film"], max_length=22)
    assert [len(row) for row in rows.ids] == [22, 22, 12, 3]
    assert rows.num_texts == 2 and rows.num_tokens == 59


@pytest.mark.parametrize("kind", ["gpt2", "llama", "bert", "roberta"])
def test_reading_on_lowers_the_loss_and_writes_a_backbone(kind: str, tiny_folder: Callable[[str], str], tmp_path: Path) -> None:
    found = adapt(TEXTS, backbone=tiny_folder(kind), out=tmp_path / "run", settings=QUICK)
    assert found.facts["loss_after"] < 0.7 * found.facts["loss_before"]
    before, after = found.perplexity
    assert before == pytest.approx(math.exp(found.facts["loss_before"])) and after < before
    again = load_backbone(found.folder)
    assert again.fingerprint != found.facts["base_fingerprint"]
    model = LanguageModel(again, seed=1)
    held_out = model.prepare([row["text"] for row in TEXTS[:20]], max_length=24)
    start = LanguageModel(tiny_backbone(kind), seed=1)
    assert model.mean_loss(held_out) < 0.7 * start.mean_loss(held_out)
    plain: Any = AutoModelForCausalLM if again.kind == "decoder" else AutoModelForMaskedLM
    assert plain.from_pretrained(found.folder).config._attn_implementation == "sdpa"
    rows = [{"text": "The film was good .", "label": "good"}, {"text": "The plot was bad .", "label": "bad"}] * 4
    words = {"good": ["good"], "bad": ["bad"]}
    task = ptune.fit(train=rows, template="{text}{soft:2} It was{mask}", labels=words, backbone=str(found.folder), steps=3)
    task.save(tmp_path / "bundle")
    assert ptune.load(tmp_path / "bundle").predict(["The day was good ."]) == task.predict(["The day was good ."])
    assert not (tmp_path / "run" / "state.pt").exists()
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["num_texts"] == len(TEXTS) - round(0.1 * len(TEXTS))


def test_a_loaded_model_stays_as_it_is(tmp_path: Path) -> None:
    backbone = tiny_backbone("gpt2")
    before = [parameter.clone() for parameter in backbone.model.parameters()]
    adapt(TEXTS, backbone=backbone, out=tmp_path / "run", settings=QUICK.model_copy(update={"steps": 2}))
    assert all(torch.equal(one, other) for one, other in zip(before, backbone.model.parameters(), strict=True))


@pytest.mark.parametrize("kind", ["gpt2", "bert"])
def test_a_stopped_run_goes_on_to_the_same_weights(kind: str, tiny_folder: Callable[[str], str], tmp_path: Path) -> None:
    def run(name: str, *, stop_at: int | None = None, resume: bool = False) -> Any:
        def stops(event: Any) -> None:
            if event.step == stop_at:
                raise KeyboardInterrupt

        return adapt(TEXTS, backbone=tiny_folder(kind), out=tmp_path / name, settings=QUICK, resume=resume, listeners=[stops])

    whole = run("whole")
    with pytest.raises(KeyboardInterrupt):
        run("parts", stop_at=whole.facts["steps"] // 2 + 1)
    parts = run("parts", resume=True)
    assert parts.facts["loss_after"] == whole.facts["loss_after"]
    files = [folder / "model.safetensors" for folder in (whole.folder, parts.folder)]
    assert files[0].read_bytes() == files[1].read_bytes()
    with pytest.raises(PtuneError, match="has finished already"):
        run("parts", resume=True)
    with pytest.raises(PtuneError, match="not empty"):
        run("parts")


@pytest.mark.parametrize(
    ("kind", "texts", "says"),
    [("t5", TEXTS, "encoder-decoder"), ("gpt2", [{"text": "one"}], "too few"), ("gpt2", [{"review": "one"}], "text")],
)
def test_what_cannot_be_read_is_an_error_and_nothing_is_written(
    kind: str, texts: list[dict[str, str]], says: str, tmp_path: Path
) -> None:
    with pytest.raises(PtuneError, match=says):
        adapt(texts, backbone=tiny_backbone(kind), out=tmp_path / "run", settings=AdaptSettings(steps=1))
    assert not (tmp_path / "run").exists()


def test_a_text_may_be_a_list_of_words(tmp_path: Path) -> None:
    rows = [{"tokens": row["text"].split()} for row in TEXTS]
    settings = AdaptSettings(steps=2, column="tokens")
    found = adapt(rows, backbone=tiny_backbone("gpt2"), out=tmp_path / "words", settings=settings)
    plain = adapt(TEXTS, backbone=tiny_backbone("gpt2"), out=tmp_path / "texts", settings=AdaptSettings(steps=2))
    assert found.facts["loss_before"] == plain.facts["loss_before"]


def test_going_on_with_other_texts_is_refused(tmp_path: Path) -> None:
    backbone, settings = tiny_backbone("gpt2"), AdaptSettings(steps=4)

    def stops(event: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        adapt(TEXTS, backbone=backbone, out=tmp_path / "run", settings=settings, listeners=[stops])
    with pytest.raises(PtuneError, match="other texts"):
        adapt(TEXTS[:50], backbone=backbone, out=tmp_path / "run", settings=settings, resume=True)
    with pytest.raises(PtuneError, match="no run to resume"):
        adapt(TEXTS, backbone=backbone, out=tmp_path / "none", settings=settings, resume=True)
