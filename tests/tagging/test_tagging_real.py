"""Real weights: names and answers are learned on the small sentence encoder of the catalogue, where it has been pulled."""

import pytest

import ptune
from ptune.backbone import entry, local_folder

pytestmark = pytest.mark.slow

PEOPLE = ["Ada", "Grace", "Alan", "Emmy", "Barbara", "Edsger"]
PLACES = ["London", "Paris", "Vienna", "Oslo", "Madrid", "Rome"]


@pytest.fixture(scope="module")
def minilm() -> ptune.Backbone:
    if local_folder(entry("minilm-l6")) is None:
        pytest.skip("minilm-l6 has not been pulled here")
    return ptune.load_backbone("minilm-l6")


def sentence(person: str, place: str) -> dict[str, list[str]]:
    return {"tokens": [person, "lives", "in", place, "."], "tags": ["B-PER", "O", "O", "B-LOC", "O"]}


def question(person: str, place: str) -> dict[str, object]:
    context = f"{person} lives in {place}."
    return {"context": context, "question": "Where?", "answers": {"text": [place], "answer_start": [context.index(place)]}}


def test_names_are_learned(minilm: ptune.Backbone) -> None:
    rows = [sentence(person, place) for person in PEOPLE[:4] for place in PLACES[:4]]
    task = ptune.fit(
        task="tagging", train=rows, backbone=minilm, method={"name": "p-tuning-v2", "num_tokens": 4}, steps=60, batch_size=8
    )
    assert task.facts["training"]["last_loss"] < 0.2 * task.facts["training"]["first_loss"]
    assert task.evaluate([sentence(person, place) for person in PEOPLE[4:] for place in PLACES[4:]]).score > 0.9
    spans = task.predict(["Barbara lives in Rome."])[0].spans
    assert [(span.type, span.text, span.start) for span in spans] == [("PER", "Barbara", 0), ("LOC", "Rome", 17)]


def test_answers_are_learned(minilm: ptune.Backbone) -> None:
    rows = [question(person, place) for person in PEOPLE[:4] for place in PLACES[:4]]
    task = ptune.fit(
        task="qa", train=rows, backbone=minilm, method={"name": "p-tuning-v2", "num_tokens": 4}, steps=60, batch_size=8
    )
    assert task.evaluate([question(person, place) for person in PEOPLE[4:] for place in PLACES[4:]]).exact > 0.9
