"""`ptune template check`: what is shown, and each kind of finding once."""

from pathlib import Path

import pytest

from command_line import Run


def test_shows_rows_words_and_the_length_rule(desk: Path, ptune: Run) -> None:
    ran = ptune("template", "check", "recipe.yaml", "--rows", "2")
    assert ran.code == 0, ran.err
    assert "⟨soft 0⟩|⟨soft 1⟩|⟨soft 2⟩" in ran.out and "⟨answer⟩" in ran.out and "{text}" in ran.out
    assert ran.out.count("tokens)") == 2 and "words are scored by" in ran.out and "' great'" in ran.out


def test_json_tells_fields_from_template(desk: Path, ptune: Run) -> None:
    facts = ptune("template", "check", "recipe.yaml", "--rows", "1", "--json").json
    sources = [piece["source"] for piece in facts["rows"][0]["pieces"]]
    assert list(dict.fromkeys(sources)) == ["special", "text", "soft", "", "answer"]
    text = "".join(piece["text"] for piece in facts["rows"][0]["pieces"] if piece["source"] == "text")
    assert text == "The film was great"
    assert sum(facts["priors"].values()) == pytest.approx(1, abs=1e-5)


WARNINGS = {
    "the template is Chinese": (["template={text}{soft:2} 总体来说，很{mask}"], "the template in the language of the data"),
    "no separator": (["template={text}words{soft:2} {mask}"], "nothing separates"),
    "longer than the texts": (["template={text}{soft:2} " + "what a good day " * 4 + "it was {mask}"], "longer than the texts"),
    "words behind the mask": (["template={text}{soft:2} It was {mask} for me"], "behind the mask"),
    "many tokens": (["labels={positive: disappointing music, negative: bad}"], "tokens; a word of one or two"),
    "a rare word": (["labels={positive: film, negative: bad}"], "is a rare word to this model"),
    "swapped words": (["labels={good: bad, bad: good}"], "were they swapped?"),
    "cut texts": (["max_length=12"], "texts are cut to fit"),
}


@pytest.mark.parametrize(("settings", "words"), WARNINGS.values(), ids=WARNINGS)
def test_warnings_do_not_fail(desk: Path, ptune: Run, settings: list[str], words: str) -> None:
    if "swapped" in words:
        for name in ("train", "test"):
            file = Path("data", f"{name}.jsonl")
            file.write_text(file.read_text().replace('"positive"', '"good"').replace('"negative"', '"bad"'))
    options = [word for text in settings for word in ("--set", text)]
    ran = ptune("template", "check", "recipe.yaml", *options)
    assert ran.code == 0, ran.err
    assert words in ran.out and "error:" not in ran.out


def test_unequal_priors_are_named(desk: Path, ptune: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import ptune.recipe.check as check

    monkeypatch.setattr(check, "_priors", lambda model, examples: {"positive": 0.95, "negative": 0.05})
    ran = ptune("template", "check", "recipe.yaml")
    assert (
        ran.code == 0 and "gives 'positive' 19 times the probability of 'negative'" in ran.out and "prior correction" in ran.out
    )


ERRORS = {
    "no mask": (["template={text}{soft:2} It was"], "has no {mask}"),
    "one word begins another": (["labels={positive: good, negative: good day}"], "is the beginning of"),
    "more soft tokens than positions": (["template={text}{soft:90} It was {mask}"], "do not fit into 64 positions"),
}


@pytest.mark.parametrize(("settings", "words"), ERRORS.values(), ids=ERRORS)
def test_errors_fail_with_all_findings_shown(desk: Path, ptune: Run, settings: list[str], words: str) -> None:
    ran = ptune("template", "check", "recipe.yaml", *[word for text in settings for word in ("--set", text)])
    assert ran.code == 2 and len(ran.error_lines) == 1 and "the template has 1 error" in ran.error_lines[0]
    assert words in ran.out
