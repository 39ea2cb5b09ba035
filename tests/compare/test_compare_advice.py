"""Recommendations follow from the numbers by the stated rules; bars pass and fail where they should."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ptune.compare import behind, below_bar, guarded_row, read_earlier, read_results, write_report
from ptune.compare.first_advice import DataFacts, advise, data_facts, fitting_model
from ptune.compare.recommendation import Recommendation, recommend, rules
from ptune.compare.results import Row, read_summary
from ptune.compare.statistics import Difference
from ptune.data import Example
from ptune.errors import DataError, RecipeError
from summaries import make_row, make_summary

MAY_BE_CHANCE = Difference(-0.01, -0.04, 0.02, 0.5)
NOTHING_LEARNED = Difference(0.02, -0.05, 0.09, 0.4)


def keys(advice: Recommendation) -> list[str]:
    return [finding.rule for finding in advice.findings]


def best(method: str = "big", accuracy: float = 0.9, **changes: Any) -> Row:
    return make_row(method, accuracy, is_best=True, from_best=None, **changes)


def test_the_best_is_recommended_where_nothing_is_its_equal() -> None:
    advice = recommend(make_summary(best("p-tuning"), make_row("other", 0.85)))
    assert advice.row is not None and advice.row.method == "p-tuning" and keys(advice) == ["cheapest", "equals"]
    english, alone = advice.findings[0].english, advice.findings[1].english
    assert english.startswith("Use p-tuning on small-model: accuracy 0.900 (") and "with 16 rows of each label" in english
    assert "stores 4.0 kB, learned in 20 s and answers a thousand texts in 5.0 s" in english
    assert alone == "It is the most accurate of the methods with as many seeds, and no other is its equal."


@pytest.mark.parametrize(
    ("changes", "wins"),
    [
        ({"backbone": "", "num_bytes": 10**8}, True),  # no language model at all
        ({"num_trained": 0}, True),  # nothing trained
        ({"num_bytes": 2 * 10**6}, False),  # weights of its own, as the best has
        ({"from_best": Difference(-0.02, -0.04, -0.01, 0.01)}, False),  # worse beyond chance
        ({"num_trained": 0, "seeds": (1, 2)}, False),  # fewer seeds
        ({"backbone": "", "from_majority": NOTHING_LEARNED}, False),  # no better than the majority
    ],
)
def test_the_cheapest_kind_among_equals_wins(changes: dict[str, Any], wins: bool) -> None:
    given = {"from_best": MAY_BE_CHANCE, "num_bytes": 4000, **changes}
    advice = recommend(make_summary(best(num_bytes=5 * 10**8), make_row("small", 0.89, **given)))
    assert advice.row is not None and (advice.row.method == "small") == wins
    if wins:
        more = advice.findings[1].english
        assert more.startswith(
            "The most accurate, big on small-model with 0.900, is 1 points higher, which may be chance (-2 to 4)"
        )


def test_far_below_the_best_is_no_equal_whatever_chance_says() -> None:
    wide = Difference(-0.1, -0.4, 0.2, 0.5)
    advice = recommend(make_summary(best(num_bytes=5 * 10**8), make_row("small", 0.8, from_best=wide, backbone="")))
    assert advice.row is not None and advice.row.method == "big"


def test_equals_of_the_same_kind_go_by_accuracy_then_speed() -> None:
    rows = [best("a"), make_row("b", 0.9, from_best=Difference(0.0, 0.0, 0.0, 1.0), predict_seconds=1.0)]
    advice = recommend(make_summary(*rows))
    assert advice.row is not None and advice.row.method == "b"


def test_nothing_is_recommended_where_nothing_was_learned() -> None:
    advice = recommend(make_summary(best(from_majority=NOTHING_LEARNED), make_row("majority", 0.5, from_majority=None)))
    assert advice.row is None and advice.best is not None and keys(advice)[0] == "learned"
    assert "no method is clearly better than the majority label" in advice.findings[0].english
    assert recommend(make_summary(Row("x", "x", "prompting", "m", 16, reason="broken"))).findings[0].rule == "learned"


def test_a_best_that_has_not_learned_is_passed_over_for_one_that_has() -> None:
    """Its interval over the majority label is wide, that of others lies above zero: their best is recommended."""
    unsure = best("unsure", 0.92, from_majority=NOTHING_LEARNED)
    far = Difference(-0.12, -0.3, 0.06, 0.2)
    rows = [make_row("steady", 0.8, from_best=far), make_row("weak", 0.7, from_best=far), make_row("lucky", 0.9, num_seeds=1)]
    advice = recommend(make_summary(unsure, *rows))
    assert advice.row is not None and advice.row.method == "steady" and advice.best is unsure
    assert keys(advice)[:2] == ["cheapest", "learned"]
    assert "unsure on small-model with 0.920, is 12 points higher, but it varies too much" in advice.findings[1].english
    near = make_row("near", 0.9, from_best=MAY_BE_CHANCE, backbone="")
    closer = recommend(make_summary(unsure, *rows, near)).row
    assert closer is not None and closer.method == "near"


def test_a_row_that_shares_no_seed_with_the_best_is_not_the_best() -> None:
    """Neither has a difference to the best."""
    lucky = make_row("lucky", 0.95, num_seeds=1, seeds=(4,), from_best=None)
    advice = recommend(make_summary(lucky, steady := best("steady")))
    assert advice.best is advice.row is steady


def test_a_best_that_has_not_learned_may_share_no_seed_with_the_recommended_one() -> None:
    unsure = best("unsure", 0.92, from_majority=NOTHING_LEARNED)
    advice = recommend(make_summary(unsure, make_row("steady", 0.8, seeds=(4, 5, 6), from_best=None)))
    assert advice.row is not None and advice.row.method == "steady" and advice.best is unsure
    assert "is 12 points higher, but it varies too much" in advice.findings[1].english


def test_results_without_the_mark_of_the_best_can_be_read() -> None:
    summary = make_summary(best(), make_row("small", 0.8), Row("x", "x", "prompting", "m", 16, reason="broken"))
    values = json.loads(json.dumps(summary.to_dict()))
    for row in values["rows"]:
        del row["is_best"]
    assert read_summary(values) == summary


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"calibration_error": 0.2}, "off by 0.20 on average"),
        ({"curve": ((10, 0.6), (20, 0.9), (30, 0.9), (40, 0.9))}, "Step 20 of 40 was as good"),
        ({"others": (("hotels", make_row("x", 0.6).accuracy),)}, "does not carry over to hotels: 0.600 there, 30 points less"),
        ({"others": (("hotels", make_row("x", 0.88).accuracy),)}, "It carries over to hotels: 0.880 there."),
        ({"from_fewer": Difference(0.1, 0.05, 0.15, 0.0)}, "from 4 to 16 rows of each label it gained 10 points (5 to 15)"),
        ({"from_fewer": Difference(0.01, -0.05, 0.07, 0.7)}, "not shown that more labels help"),
    ],
)
def test_what_else_should_be_known(changes: dict[str, Any], words: str) -> None:
    summary = make_summary(best(**changes), make_row("big", 0.8, shots=4))
    assert any(words in finding.english for finding in recommend(summary).findings)


def test_thin_evidence_is_said() -> None:
    few = recommend(make_summary(best(num_seeds=2)))
    assert any("This rests on 2 seed(s) and 200 test rows" in one.english for one in few.findings)
    many = recommend(make_summary(best(), *(make_row(f"m{at}", 0.6) for at in range(12)), Row("y", "y", "prompting", "m", 16)))
    said = " ".join(one.english for one in many.findings)
    assert "13 methods were judged on the same rows" in said and "Without figures: 1 of 14 methods" in said


def test_rows_with_fewer_seeds_are_named_and_not_considered() -> None:
    """As after a budget that ran out: a higher mean on fewer seeds neither wins nor goes unsaid."""
    advice = recommend(make_summary(make_row("lucky", 0.95, num_seeds=1), best("steady")))
    assert advice.row is not None and advice.row.method == "steady"
    assert any(
        "Not considered, because they have fewer seeds so far: lucky on small-model." in one.english for one in advice.findings
    )


def test_every_finding_names_its_rule_and_speaks_both_languages() -> None:
    summary = make_summary(best(calibration_error=0.3), make_row("b", 0.89, from_best=MAY_BE_CHANCE, backbone=""))
    advice = recommend(summary)
    assert set(keys(advice)) <= set(rules())
    for finding in advice.findings:
        assert "{" not in finding.english + finding.chinese and any("一" <= one <= "鿿" for one in finding.chinese)
    assert json.loads(json.dumps(advice.to_dict()))["recommended"]["method"] == "b"


# -- bars ------------------------------------------------------------------------------------------------------------


def test_a_bar_on_accuracy() -> None:
    row = make_row("a", 0.9)
    assert below_bar(row, 0.9) == "" and below_bar(row, 0.901) == "a: accuracy 0.900 is under the bar of 0.901"


def test_the_guarded_row_is_named_or_recommended() -> None:
    summary = make_summary(best("a"), make_row("b", 0.8))
    advice = recommend(summary)
    assert guarded_row(summary, advice, None).method == "a" and guarded_row(summary, advice, "b").method == "b"
    with pytest.raises(RecipeError, match="there are no figures of a method 'c'"):
        guarded_row(summary, advice, "c")


def test_falling_behind_a_comparison_is_paired(tmp_path: Path) -> None:
    write_report(earlier := make_summary(best("a", 0.9)), recommend(earlier), tmp_path)
    assert read_results(tmp_path) == earlier
    for accuracy, is_behind in ((0.9, False), (0.8, True), (0.95, False)):
        now = make_summary(row := best("a", accuracy))
        assert bool(behind(row, now, read_earlier(tmp_path))) == is_behind
    said = behind(best("a", 0.8), make_summary(), earlier)
    assert said.startswith("a: accuracy 0.800 after 0.900, worse by 0.100 (")


def test_what_is_recommended_must_not_fall_behind_what_was() -> None:
    """The method of before fell from 0.9 to 0.6; another one, that is as good as ever, is recommended in its place."""
    earlier = make_summary(best("a", 0.9), make_row("b", 0.85))
    now = make_summary(make_row("a", 0.6), row := best("b", 0.85))
    assert guarded_row(now, recommend(now), None) is row and behind(row, now, earlier) == ""
    said = behind(row, now, earlier, is_named=False)
    assert said.startswith("b: accuracy 0.850 after 0.900 of a on small-model, worse by 0.050 (")
    assert behind(best("b", 0.9), now, earlier, is_named=False) == ""
    other = make_summary(data={**now.data, "test_fingerprint": "c" * 64})
    assert behind(best("b", 0.6), other, earlier, is_named=False).startswith(
        "b: accuracy 0.600 after 0.900 of a on small-model"
    )


@pytest.mark.parametrize("earlier", [best("a", shots=4), Row("x", "x", "prompting", "m", 16, reason="broken")])
def test_what_was_not_recommended_is_nothing_to_compare_with(earlier: Row) -> None:
    with pytest.raises(DataError, match="it recommends nothing with 16 shots"):
        behind(best("a"), make_summary(), make_summary(earlier), is_named=False)


def test_other_test_rows_are_compared_by_intervals() -> None:
    earlier = make_summary(best("a", 0.9))
    other = {**earlier.data, "test_fingerprint": "c" * 64}
    assert behind(best("a", 0.86), make_summary(data=other), earlier) == ""
    assert "on other test rows" in behind(best("a", 0.6), make_summary(data=other), earlier)


def test_falling_behind_a_single_run(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text('{"tuned": {"accuracy": 0.9}}')
    accuracy = read_earlier(tmp_path)
    assert accuracy == 0.9
    assert behind(best("a", 0.89), make_summary(), accuracy) == "" != behind(best("a", 0.7), make_summary(), accuracy)


def test_what_cannot_be_compared_with_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="neither a comparison nor a finished run"):
        read_earlier(tmp_path)
    (tmp_path / "results.json").write_text("[]")
    with pytest.raises(DataError, match="the results cannot be read"):
        read_results(tmp_path)
    with pytest.raises(DataError, match="there is no comparison"):
        read_results(tmp_path / "nowhere")
    write_report(make_summary(best("a")), recommend(make_summary(best("a"))), tmp_path)
    with pytest.raises(DataError, match="it has no figures of z"):
        behind(best("z"), make_summary(), read_earlier(tmp_path))


# -- before anything is measured -------------------------------------------------------------------------------------


def facts(**changes: Any) -> DataFacts:
    values = {
        "rows": 40,
        "labels": 2,
        "fewest": 16,
        "most": 20,
        "characters": 60,
        "language": "en",
        "has_test": True,
        "free_mb": 9000,
    }
    return DataFacts(**{**values, **changes})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"fewest": 2}, "begin with the template alone"),
        ({}, "a learned prompt on a frozen model is the one to begin with"),
        ({"fewest": 300, "most": 400}, "strong rivals"),
        ({"labels": 77}, "77 labels are many for label words"),
        ({"most": 200}, "The labels are uneven (200 against 16 rows)"),
        ({"characters": 2000}, "Texts are long"),
        ({"has_test": False}, "There are no test rows"),
        ({"free_mb": 100}, "No model of the catalogue fits"),
        ({"language": "zh"}, "Model: gemma-3-270m-q4"),
    ],
)
def test_rules_of_thumb(changes: dict[str, Any], words: str) -> None:
    found = [one.english for one in advise(facts(**changes), "my data.csv")]
    assert any(words in one for one in found)
    assert found[-1] == "None of this was measured on your data. To know: ptune compare my data.csv --budget 10m"


def test_facts_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=2 * 10**9))
    rows = [Example({"text": "abc"}, "x"), Example({"text": "abcde"}, "x"), Example({"text": "a"}, "y")]
    found = data_facts(rows, ["text"], language="en", has_test=False)
    assert (found.rows, found.labels, found.fewest, found.most, found.characters) == (3, 2, 1, 2, 3)
    assert found.free_mb == 2000  # as the catalogue counts, 10^6 bytes each
    small = fitting_model("en", 2000)
    assert small is not None and small.name == "smollm2-135m-q4" and fitting_model("en", 500) is None
