"""The library of templates: complete, readable, and fit for the backbones that it names."""

from collections import Counter

import pytest

from ptune.errors import TemplateError
from ptune.template import Entry, Template, check_template, dominant_script, resolve, template, templates

KINDS = {"encoder", "decoder", "encoder-decoder"}


@pytest.mark.parametrize("entry", templates(), ids=lambda entry: entry.id)
def test_every_entry_is_sound(entry: Entry) -> None:
    assert Template.parse(str(entry.template)) == entry.template
    assert entry.template.num_masks == 1 and entry.template.field_names
    assert entry.kinds and set(entry.kinds) <= KINDS
    assert entry.id.startswith(f"{entry.language}/{entry.task}/")
    assert entry.source and entry.note
    words = [word for words in entry.labels.values() for word in words]
    assert len(set(words)) == len(words) and all(isinstance(word, str) and word.strip() for word in words)
    assert all(isinstance(label, str) and entry.labels[label] for label in entry.labels)


@pytest.mark.parametrize("entry", templates(), ids=lambda entry: entry.id)
def test_no_entry_is_found_fault_with_on_its_own_backbones(entry: Entry) -> None:
    text = "房间很干净，服务也好。" if entry.language == "zh" else "The rooms were clean."
    rows = [dict.fromkeys(entry.template.field_names, text)]
    for kind in entry.kinds:
        findings = check_template(entry.template, kind=kind, sample_fields=rows)  # type: ignore[arg-type]
        assert [finding for finding in findings if finding.level != "hint"] == []
    script = "unspaced" if entry.language == "zh" else "spaced"
    assert all(dominant_script(word) == script for words in entry.labels.values() for word in words)


def test_every_language_has_every_task_and_every_kind() -> None:
    for language in ("en", "zh"):
        count = Counter(entry.task for entry in templates(language=language))
        assert count["sentiment"] >= 4
        assert set(count) == {"sentiment", "topic", "intent", "nli", "paraphrase", "subjectivity", "question-type"}
        for task in count:
            assert {kind for entry in templates(task, language) for kind in entry.kinds} == KINDS


def test_filters_and_look_up() -> None:
    assert {entry.task for entry in templates("nli")} == {"nli"}
    assert templates("nothing") == ()
    assert str(template("en/sentiment/it-was").template) == "{text} It was {mask}."
    assert template("zh/sentiment/zongti").labels["positive"] == ("好",)
    with pytest.raises(TemplateError, match='did you mean "en/sentiment/it-was"'):
        template("en/sentiment/itwas")
    with pytest.raises(TemplateError, match="no template"):
        template("§")


def test_resolve_reads_an_id_or_a_template() -> None:
    assert resolve("library:en/sentiment/it-was") == template("en/sentiment/it-was").template
    assert resolve("{text} {mask}") == Template.parse("{text} {mask}")
    with pytest.raises(TemplateError, match="did you mean"):
        resolve("library:en/sentimnt/it-was")
    with pytest.raises(TemplateError, match="quotes in the YAML file"):
        resolve({"text": None})  # type: ignore[arg-type]
