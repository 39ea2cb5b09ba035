"""Reasoning before the answer: what is read as one, what is voted, what is asked for, and the text that the model saw."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ptune.cli import main
from ptune.data import Example
from ptune.errors import PtuneError
from ptune.model import PromptModel
from ptune.recipe import Recipe
from ptune.strategy import ChainOfThoughtSettings, Reasoner, run_chain_of_thought
from ptune.strategy.answers import AnswerForm, label_of, plain, vote
from tiny import tiny_backbone, tiny_model, tiny_tokenizer

ROWS = [
    {"text": "The film was great", "label": "good", "target": "great", "rationale": "great film"},
    {"text": "It was bad", "label": "bad", "target": "bad", "rationale": "not good"},
    {"text": "a good story", "label": "good", "target": "good", "rationale": "good story"},
    {"text": "a bad film", "label": "bad", "target": "bad", "rationale": "bad film"},
]
LABELS = {"good": ["great"], "bad": ["terrible"]}
TEMPLATE = "{demos}{text}\nSo{mask}"
FORM = "It is {answer}."


def recipe(kind: str = "gpt2", task: str = "classification", **keys: Any) -> Recipe:
    own = {"labels": LABELS} if task == "classification" else {"task": "generation"}
    words = {"train": ROWS, "test": ROWS[:2], "method": "hard", "template": TEMPLATE, "backbone": tiny_backbone(kind)}
    return Recipe.of({**words, **own, "max_length": 24, **keys})


def settings(**keys: Any) -> ChainOfThoughtSettings:
    return ChainOfThoughtSettings(**{"demos": 1, "max_new_tokens": 6, "answer": FORM, **keys})


# -- reading and voting ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "text", "answer"),
    [
        ("The answer is {answer}.", "He has 3 and 4. The answer is 7.", "7"),
        ("The answer is {answer}.", "The answer is 3.5. Done.", "3.5"),
        ("The answer is {answer}.", "the  ANSWER\nis: 12", "12"),
        ("The answer is {answer}.", "The answer is 3. No, wait. The answer is 4.", "4"),
        ("The answer is {answer}.", "The answer is\n", None),
        ("The answer is {answer}.", "I do not know.", None),
        ("The answer is {answer}.", "The answer is ...", None),
        ("#### {answer}", "2 + 2 = 4\n#### 4\nNext question", "4"),
        ("所以答案是{answer}。", "质量很差。所以答案是消极。", "消极"),
        ("\nAnswer: {answer}", "because\nAnswer: very bad\n", "very bad"),
        ("Answer:\n{answer}", "because\nAnswer:\nvery bad\nAnd so on", "very bad"),
        ("Answer:\n {answer}.", "Answer:\n\n 12.", "12"),
        ("Answer: {answer}", "Answer:\nvery bad", None),
        ("所以答案是{answer}。", "答案不明。所以答案是3.5。这是因为很差。", "3.5"),
        ("所以答案是{answer}。", "所以答案是3。不对，所以答案是4。", "4"),
    ],
)
def test_an_answer_is_what_stands_at_the_last_place_that_says_so(form: str, text: str, answer: str | None) -> None:
    assert AnswerForm(form).read(text) == answer


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("Great", "great.", True),
        ("$1,200.50", "1200.5", True),
        ("1,5", "15", False),
        ("07", "7", True),
        ("50%", "50", True),
        ("New  York", "new york", True),
        ("-3", "3", False),
        ("C", "C++", False),
        ("nan", "NaN", True),
        ("1e9999999", "1E9999999", True),
        ("1e9999999", "1e9999998", False),
        ("1e-9999999", "0", False),
        ("-0.00", "0", True),
        ("1e3", "1000", True),
        ("0.12345678901234567890123456789012345", "0.12345678901234567890123456789012346", False),
    ],
)
def test_answers_are_compared_plainly(first: str, second: str, same: bool) -> None:
    assert (plain(first) == plain(second)) is same


def test_most_votes_win_and_of_equals_the_first() -> None:
    assert vote(["7", None, "8", "8.0", "9"]) == ("8", {"7": 1, "8": 2, "9": 1})
    assert vote(["b", "a", "a", "B"]) == ("b", {"b": 2, "a": 2})
    assert vote([None, None]) == (None, {})


def test_a_label_is_named_by_itself_or_its_words_and_by_nothing_else() -> None:
    assert [label_of(said, LABELS) for said in ("Good.", "terrible", "not good", "")] == ["good", "bad", None, None]


# -- against plain transformers --------------------------------------------------------------------------------------


def prompt(shown: dict[str, str], answer: str, text: str) -> str:
    return f"{shown['text']}\nSo {shown['rationale']} It is {answer}.\n\n{text}\nSo"


def written_by_transformers(text: str, num_tokens: int) -> str:
    """Greedy, token by token, up to a blank line."""
    model, tokenizer = tiny_model("gpt2"), tiny_tokenizer("gpt2")
    ids = [tokenizer.bos_token_id, *tokenizer(text)["input_ids"]]
    new: list[int] = []
    for _ in range(num_tokens):
        logits = model(input_ids=torch.tensor([ids + new])).logits[0, -1]
        new.append(int(logits.argmax()))
        if new[-1] == tokenizer.eos_token_id or "\n\n" in tokenizer.decode(new):
            break
    return tokenizer.decode(new, skip_special_tokens=True).split("\n\n")[0].strip()


def the_demo(found: Reasoner) -> dict[str, str]:
    return next(row for row in ROWS if row["rationale"] in found.demos)


def test_the_reasoning_is_written_behind_the_worked_demonstration() -> None:
    found, report = run_chain_of_thought(recipe(), settings())
    shown = the_demo(found)
    assert found.demos == prompt(shown, LABELS[shown["label"]][0], "").split("\n\n")[0]
    (one,) = found.answer([Example({"text": "a day"})])
    assert one.texts == (written_by_transformers(prompt(shown, LABELS[shown["label"]][0], "a day"), 6),)
    assert report is not None and report.num_rows == 2


def test_a_text_without_an_answer_is_ended_by_the_labels_scores() -> None:
    """Against a template that was typed by hand with what the model wrote."""
    found, _ = run_chain_of_thought(recipe(), settings())
    shown = the_demo(found)
    (one,) = found.answer([Example({"text": "a day"})])
    assert one.num_asked == 1 and one.answer in LABELS
    whole = prompt(shown, LABELS[shown["label"]][0], "a day") + " " + one.texts[0] + " It is"
    fields = {"whole": whole}
    hand = PromptModel.build(
        backbone=tiny_backbone("gpt2"), template="{whole}{mask}", labels=LABELS, method="hard", max_length=64
    )
    assert hand.predict([Example(fields)])[0].label == one.answer


@pytest.mark.parametrize("kind", ["llama", "gemma3", "t5"])
def test_texts_answer_by_writing_on(kind: str) -> None:
    found, report = run_chain_of_thought(recipe(kind, "generation"), settings())
    assert (
        report is not None
        and 0 <= report.accuracy <= 1
        and report.found
        == 1 - sum(one.num_asked for one in found.answer(found.examples(["The film was great", "It was bad"]))) / 2
    )


class Scripted:
    """Stands in for a model that writes: gives the texts of a script."""

    def __init__(self, found: Reasoner, script: list[tuple[str, ...]]) -> None:
        self._writer, self._script = found.writer, script

    def write(self, rows: list[Example], how: Any) -> list[tuple[Any, ...]]:
        assert how.returns == len(self._script[0])
        return [tuple(type("Written", (), {"text": text})() for text in texts) for texts in self._script]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._writer, name)


def test_samples_vote_and_figures_count_them() -> None:
    found, _ = run_chain_of_thought(recipe(test=None), settings(samples=3))
    script = [
        ("So. It is great.", "It is bad.", "It is good."),
        ("It is great.", "It is Good.", "It is terrible."),
    ]
    acted = Reasoner(Scripted(found, script), *[getattr(found, n) for n in list(found.__dataclass_fields__)[1:]])
    rows = [Example({"text": row["text"]}, row["label"]) for row in ROWS[:2]]
    answers = acted.answer(rows)
    assert [one.answer for one in answers] == ["good", "good"] and answers[0].votes == {"good": 2, "bad": 1}
    report = acted.judge(rows, answers)
    assert (report.accuracy, report.found) == (0.5, 1.0) and report.agreement == pytest.approx(2 / 3)


def test_samples_are_drawn_by_the_seed() -> None:
    rows = [Example({"text": "a day"})]
    first, again, other = (
        run_chain_of_thought(recipe(test=None, shots=2, seed=seed), settings(samples=3, demos=0))[0].answer(rows)[0]
        for seed in (1, 1, 2)
    )
    assert len(first.texts) == 3 and first == again and first.texts != other.texts


# -- what cannot be --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "own", "fault"),
    [
        ({}, {"answer": "The answer"}, "does not say {answer} once"),
        ({}, {"answer": "{answer}"}, "to know it by"),
        ({"template": "{text}\nThoughts:{mask}"}, {}, "no place for demonstrations"),
        ({}, {"rationale": "thoughts"}, "0 of 4 training rows have reasoning"),
        ({}, {"demos": 5}, "4 of 4 training rows have reasoning"),
        ({}, {"separator": "o"}, "the reasoning holds 'o'"),
        ({}, {"max_new_tokens": 500}, "no text fits"),
        ({"labels": {"+1": ["good"], "1": ["bad"]}, "train": [{**ROWS[0], "label": "1"}]}, {}, "are both answered by"),
        ({"template": "{demos}{text}{soft:2}{mask}", "method": "p-tuning"}, {}, "trains nothing"),
        ({"labels": ["good", "bad"], "head": "linear"}, {}, "a label or a text"),
        ({"backbone": tiny_backbone("bert")}, {}, "writes none"),
    ],
)
def test_what_cannot_be_is_refused(keys: dict[str, Any], own: dict[str, Any], fault: str) -> None:
    with pytest.raises(PtuneError, match=fault):
        run_chain_of_thought(recipe(**keys), settings(**own))


def test_the_command(tmp_path: Path, tiny_folder: Callable[[str], str], capsys: pytest.CaptureFixture[str]) -> None:
    words = {"train": ROWS, "test": ROWS[:2], "labels": LABELS, "method": "hard", "template": TEMPLATE, "max_length": 24}
    values = {**words, "backbone": tiny_folder("gpt2"), "cot": {"demos": 1, "max_new_tokens": 6, "samples": 2, "answer": FORM}}
    path = tmp_path / "recipe.yaml"
    path.write_text(json.dumps(values), encoding="utf-8")
    assert main(["cot", str(path)]) == 0
    assert "accuracy" in capsys.readouterr().out
    assert main(["cot", str(path), "a bad day", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["report"] is None and printed["answers"][0]["answer"] in LABELS and len(printed["answers"][0]["texts"]) == 2
    assert main(["cot", str(path), "--set", "test=null"]) == 2
    assert "nothing to answer" in capsys.readouterr().err
