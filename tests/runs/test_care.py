"""Calibration, temperature and abstention as keys of a recipe: what they set, what the bundle keeps, what is refused."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import ptune
from ptune.data import Example
from ptune.errors import PtuneError
from ptune.readout import contextual_prior, log_prior

HARD: dict[str, Any] = {"method": "hard", "template": "{text} It was{mask}"}


def prior_of(task: ptune.Task) -> torch.Tensor:
    return task.model.prior  # type: ignore[union-attr, return-value]


def scores_without_prior(task: ptune.Task, texts: list[str]) -> torch.Tensor:
    return task.scores([Example({"text": text}) for text in texts]) + prior_of(task)


@pytest.fixture
def hard(words: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in words.items() if key not in ("steps", "batch_size")} | HARD


def test_each_calibration_looks_at_its_own_texts(hard: dict[str, Any], rows: list[dict[str, str]]) -> None:
    names = ("prior", "batch", "contextual", "domain", "none")
    priors = {name: prior_of(ptune.fit(**hard, calibration=name)) for name in names}
    task = ptune.fit(**hard)
    torch.testing.assert_close(priors["prior"], prior_of(task), rtol=0, atol=0)
    texts = [row["text"] for row in rows]
    torch.testing.assert_close(priors["prior"], log_prior(scores_without_prior(task, texts)), rtol=0, atol=1e-4)
    torch.testing.assert_close(priors["batch"], contextual_prior(scores_without_prior(task, texts)), rtol=0, atol=1e-4)
    free = scores_without_prior(task, ["N/A", "", "[MASK]"])
    torch.testing.assert_close(priors["contextual"], contextual_prior(free), rtol=0, atol=1e-4)
    empty = scores_without_prior(task, [""])[0]
    torch.testing.assert_close(priors["domain"], empty - empty.mean(), rtol=0, atol=1e-4)
    assert not priors["none"].any()


def test_a_prior_that_is_taken_out_twice_is_the_same(hard: dict[str, Any], rows: list[dict[str, str]]) -> None:
    task = ptune.fit(**hard)
    first = prior_of(task).clone()
    task.model.take_out_prior(task.model.prepare([Example(row) for row in rows]))
    torch.testing.assert_close(prior_of(task), first, rtol=0, atol=1e-6)
    assert first.any()


def test_own_texts_are_read_from_a_file_beside_the_recipe(hard: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "free.csv").write_text("text\na film\na story\n", encoding="utf-8")
    by_file = ptune.fit(**hard, calibration={"name": "contextual", "texts": str(tmp_path / "free.csv")})
    by_hand = ptune.fit(**hard, calibration={"name": "contextual", "texts": ["a film", "a story"]})
    torch.testing.assert_close(prior_of(by_file), prior_of(by_hand), rtol=0, atol=0)


class Frame:
    """Has what tells a data frame, and iterates over its columns as one does."""

    columns = ("text",)

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)

    def to_dict(self, orient: str) -> list[dict[str, str]]:
        raise NotImplementedError


def test_own_texts_may_be_rows_of_any_kind(hard: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "free.csv").write_text("text\na film\na story\n", encoding="utf-8")
    texts = ["a film", "a story"]
    by_hand = prior_of(ptune.fit(**hard, calibration={"name": "contextual", "texts": texts}))
    for given in (tmp_path / "free.csv", (text for text in texts), [{"text": text} for text in texts], tuple(texts)):
        task = ptune.fit(**hard, calibration={"name": "contextual", "texts": given})
        torch.testing.assert_close(prior_of(task), by_hand, rtol=0, atol=0)
    for given, fault in ((Frame(), "data frame"), ([], "there are no rows"), (iter(()), "there are no rows")):
        with pytest.raises(PtuneError, match=fault):
            ptune.fit(**hard, calibration={"name": "contextual", "texts": given})


def test_a_learned_prompt_is_calibrated_as_it_starts(words: dict[str, Any]) -> None:
    task = ptune.fit(**words, calibration="contextual")
    assert prior_of(task).any() and not torch.equal(prior_of(task), prior_of(ptune.fit(**words)))


def test_temperature_and_threshold_are_kept_by_the_bundle(words: dict[str, Any], tmp_path: Path) -> None:
    task = ptune.fit(**words, hold_out=2, temperature=True, abstain_below=0.6, out_of_scope="other")
    plain = ptune.fit(**words, hold_out=2)
    assert task.model.temperature != 1  # type: ignore[union-attr]
    texts = ["The film was great", "a table", "It was bad"]
    saved = ptune.load(task.save(tmp_path / "bundle"))
    assert [one.to_dict() for one in saved.predict(texts)] == [one.to_dict() for one in task.predict(texts)]
    for one, other in zip(task.predict(texts), plain.predict(texts), strict=True):
        sure = max(one.probabilities.values()) >= 0.6
        assert one.label == (other.label if sure else "other")
    figures = task.facts["abstention"]
    assert figures["below"] == 0.6 and 0 <= figures["coverage"] <= 1


@pytest.mark.parametrize(
    ("keys", "fault"),
    [
        ({"calibration": "contextal"}, "contextual"),
        ({"calibration": {"name": "batch", "text": []}}, "'text' is no key"),
        ({"calibration": {"name": "prior", "texts": ["a"]}}, "takes no texts"),
        ({"calibration": "domain", "prior": "keep"}, "contradict"),
        ({"temperature": True}, "validation rows"),
        ({"out_of_scope": "other"}, "abstain_below"),
        ({"abstain_below": 1.5}, "abstain_below"),
        ({"calibration": "batch", "head": "linear", "labels": ["good", "bad"]}, "head"),
    ],
)
def test_keys_that_do_not_go_together_are_refused(words: dict[str, Any], keys: dict[str, Any], fault: str) -> None:
    with pytest.raises(PtuneError, match=fault):
        ptune.fit(**{**words, **keys})
