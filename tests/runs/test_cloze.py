"""Words for gaps out of the whole vocabulary: against the plain model, learning, files, the command line."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import ptune
from ptune.cli import main
from ptune.data import Example
from ptune.errors import PtuneError
from ptune.model.cloze_model import ClozeModel
from tiny import DECODERS, ENCODERS, KINDS, tiny_backbone, tiny_model

TEMPLATES = {"mask": "{text}{soft:2} It was{mask}", "mask-tail": "{soft:2} {text} It was{mask} .", "gap": "{soft:2} {text}"}
ROWS = [
    Example({"text": "The film # .", "label": "great"}),
    Example({"text": "What a # day", "label": "bad"}),
    Example({"text": "a # story", "label": "good"}),
    Example({"text": "I like this # .", "label": "disappointing colours"}),
]


def build(kind: str, way: str, **more: Any) -> ClozeModel:
    gap = "#" if way == "gap" else None
    method = {"name": "p-tuning", "init": "random"}
    return ClozeModel.build(backbone=tiny_backbone(kind), template=TEMPLATES[way], gap=gap, method=method, seed=2, **more)


@torch.no_grad()
def plain_table(model: ClozeModel, kind: str, example: Example) -> torch.Tensor:
    """[V] log-probabilities at the slot, by one plain forward of the whole row."""
    row, rows, tokens = model.encode(example), model.prompt().rows, model.backbone.tokens
    ids, soft = list(row.ids), list(row.soft)
    if kind in DECODERS:
        ids, soft = ids[: row.slot], soft[: row.slot]
    else:
        ids[row.slot : row.slot], soft[row.slot : row.slot] = tokens.slot_ids, [-1]
    plain = tiny_model(kind)
    table = plain.get_input_embeddings()
    vectors = torch.stack([table(torch.tensor(i)) if s < 0 else rows[s] for i, s in zip(ids, soft, strict=True)])[None]
    if kind in ENCODERS:
        return torch.log_softmax(plain(inputs_embeds=vectors).logits[0, row.slot], -1)
    if kind in DECODERS:
        return torch.log_softmax(plain(inputs_embeds=vectors).logits[0, -1], -1)
    start = torch.tensor([tokens.decoder_ids])
    return torch.log_softmax(plain(inputs_embeds=vectors, decoder_input_ids=start).logits[0, -1], -1)


@pytest.mark.parametrize("way", TEMPLATES)
@pytest.mark.parametrize("kind", KINDS)
def test_words_and_losses_are_those_of_the_plain_model(kind: str, way: str) -> None:
    model = build(kind, way)
    prepared = model.prepare(ROWS)
    tokenizer = model.backbone.tokens.tokenizer
    tables = [plain_table(model, kind, example) for example in ROWS]
    for at, (table, token, one) in enumerate(zip(tables, prepared.tokens, model.predict(ROWS), strict=True)):
        allowed = [index for index in range(len(tokenizer)) if index not in tokenizer.all_special_ids]
        best = sorted(allowed, key=lambda index, table=table: -float(table[index]))[:5]
        assert one.words == tuple(model.backbone.tokens.text([index]).strip() for index in best)
        assert one.probabilities == pytest.approx([float(table[index].exp()) for index in best], rel=1e-4)
        assert (token < 0) == (at == 3), "several tokens are out of reach"
    known = [(table, token) for table, token in zip(tables, prepared.tokens, strict=True) if token >= 0]
    expected = -sum(float(table[token]) for table, token in known) / len(known)
    assert model.mean_loss(prepared) == pytest.approx(expected, rel=1e-4)
    assert model(model.batch(prepared, range(len(ROWS)))).loss.item() == pytest.approx(expected, rel=1e-4)
    ranks = [1 + sum(float(table[i]) > float(table[token]) for i in allowed) for table, token in known]
    report = model.judge(ROWS)
    assert report.mrr == pytest.approx(sum(1 / rank for rank in ranks) / 4) and report.reachable == 0.75


@pytest.mark.parametrize("kind", DECODERS)
def test_kept_contexts_give_the_same_words(kind: str) -> None:
    model = build(kind, "mask")
    kept, whole = model.prepare(ROWS, keep_context=True), model.prepare(ROWS)
    assert model.mean_loss(kept) == pytest.approx(model.mean_loss(whole), rel=1e-5)


def rows(number: int = 8) -> list[dict[str, Any]]:
    return [
        {"text": f"The {'film' if at % 2 else 'food'} {at} was # .", "label": "great" if at % 2 else "bad"}
        for at in range(number)
    ]


def words(kind: str, **more: Any) -> dict[str, Any]:
    given = {"task": "cloze", "train": rows(), "test": rows(), "backbone": tiny_backbone(kind), "template": "{soft:3} {text}"}
    return {**given, "gap": "#", "steps": 3, **more}


@pytest.mark.parametrize("kind", ["bert", "gpt2", "t5"])
def test_facts_are_learned_saved_and_loaded(kind: str, tmp_path: Path) -> None:
    task = ptune.fit(**words(kind, steps=40, learning_rate=0.1, hold_out=2))
    training = task.facts["training"]
    assert training["last_loss"] < 0.9 * training["first_loss"]
    assert task.facts["tuned"]["metric"] == "precision_at_1" and task.facts["zero_shot"]["reachable"] == 1.0
    loaded = ptune.load(task.save(tmp_path / "bundle"), backbone=tiny_backbone(kind))
    texts = [row["text"] for row in rows()]
    assert task.predict(texts) == loaded.predict(texts)
    assert task.evaluate(rows()).to_dict() == loaded.evaluate(rows()).to_dict()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train": [{"text": "no place", "label": "a"}]}, "no gap"),
        ({"train": [{"text": "a #"}]}, "'label' is missing"),
        ({"template": "{text}{soft:3}"}, "never reads them"),
        ({"template": "{soft:3} {text}{mask}"}, "the slot is at the gap"),
        ({"template": "{text}{mask}{soft:3}", "gap": None}, "never reads them"),
        ({"gap": None}, "no answer slot"),
        ({"labels": ["a", "b"]}, "labels is for task"),
    ],
)
def test_mistakes_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(PtuneError, match=message):
        ptune.fit(**words("gpt2", **change))


def test_the_command_line_shows_words(
    tmp_path: Path, tiny_folder: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows()), encoding="utf-8")
    recipe = {**words("gpt2"), "train": "rows.jsonl", "test": "rows.jsonl", "backbone": tiny_folder("gpt2"), "n_best": 3}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")

    def run(*arguments: str) -> str:
        capsys.readouterr()
        assert main(list(arguments)) == 0, capsys.readouterr().err
        return capsys.readouterr().out

    assert "judged on           test, 8 rows (precision at 1)" in run("train", "recipe.yaml", "--out", "run", "--quiet")
    assert "mean reciprocal rank" in run("evaluate", "run/bundle", "rows.jsonl")
    assert run("predict", "run/bundle", "The film was #").rstrip().endswith("The film was #")
    results = [json.loads(line) for line in run("predict", "run/bundle", "rows.jsonl").splitlines()]
    assert all(len(result["words"]) == 3 and result["answer"] == result["words"][0] for result in results)
