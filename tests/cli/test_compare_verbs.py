"""`ptune compare`, `ptune recommend` and `ptune stress` as a user types them: results, exit codes, one-line errors."""

import json
from pathlib import Path

import pytest

from command_line import Run, rows_of, write_rows

METHODS = ("--method", "majority", "--method", "tfidf-svm", "--method", "p-tuning", "--shots", "2", "--seeds", "2", "--quiet")


@pytest.fixture
def table(desk: Path) -> Path:
    """A desk with rows enough for two shots, as many validation rows, and a test set."""
    good = tuple(f"The film number {at} was great" for at in range(11))
    bad = tuple(f"The plot number {at} was bad" for at in range(11))
    write_rows(desk / "data" / "train.jsonl", [*rows_of(good[:5], "positive"), *rows_of(bad[:5], "negative")])
    write_rows(desk / "data" / "test.jsonl", [*rows_of(good[5:], "positive"), *rows_of(bad[5:], "negative")])
    return desk


def test_a_comparison_from_a_recipe(table: Path, ptune: Run) -> None:
    ran = ptune("compare", "recipe.yaml", *METHODS)
    assert ran.code == 0, ran.err
    for name in ("majority label", "TF-IDF + linear SVM", "p-tuning", "best", "report  runs/compare-recipe/report.html"):
        assert name in ran.out
    assert {one.name for one in Path("runs/compare-recipe").iterdir()} >= {"report.html", "report.md", "results.json"}
    again = ptune("compare", "recipe.yaml", *METHODS[:-1])
    assert again.code == 0 and "0 of 6 cells computed" in again.err and "(kept)" in again.err


def test_json_and_language(table: Path, ptune: Run) -> None:
    facts = ptune("compare", "recipe.yaml", *METHODS, "--json").json
    assert [row["method"] for row in facts["rows"]] == ["majority", "tfidf-svm", "p-tuning"] and facts["recommendation"][
        "findings"
    ]
    assert "条标注" in ptune("compare", "recipe.yaml", *METHODS, "--language", "zh").out


def test_a_data_folder_alone(table: Path, ptune: Run) -> None:
    words = ("--method", "majority", "--method", "tfidf-svm", "--budget", "1m", "--seeds", "1")
    ran = ptune("compare", "data", *words, "--out", "there")
    assert ran.code == 0, ran.err
    spec = json.loads(Path("there/results.json").read_text())["spec"]
    assert spec["shots"] == [2] and spec["recipe"]["labels"] == {"negative": ["terrible"], "positive": ["great"]}


def test_bars_end_with_three(table: Path, ptune: Run) -> None:
    assert ptune("compare", "recipe.yaml", *METHODS, "--of", "majority", "--fail-under", "0.4").code == 0
    ran = ptune("compare", "recipe.yaml", *METHODS, "--of", "majority", "--fail-under", "0.9")
    assert ran.code == 3 and "not passed: majority: accuracy 0.500 is under the bar of 0.900" in ran.err
    same = ptune("compare", "recipe.yaml", *METHODS, "--of", "tfidf-svm", "--fail-if-worse-than", "runs/compare-recipe")
    assert (
        same.code == 0
        and "passed" in ptune("compare", "recipe.yaml", *METHODS[:-1], "--of", "majority", "--fail-under", "0").err
    )


def test_the_earlier_comparison_may_be_the_one_that_is_written_to(table: Path, ptune: Run) -> None:
    bar = ("--of", "majority", "--fail-if-worse-than", "runs/compare-recipe")
    missing = ptune("compare", "recipe.yaml", *METHODS, *bar)
    assert missing.code == 2 and "neither a comparison nor a finished run" in missing.err and not Path("runs").exists()
    assert ptune("compare", "recipe.yaml", *METHODS).code == 0
    path = Path("runs/compare-recipe/results.json")
    results = json.loads(path.read_text(encoding="utf-8"))
    majority = next(row for row in results["rows"] if row["method"] == "majority")
    majority["right"] = {seed: "1" * len(digits) for seed, digits in majority["right"].items()}
    path.write_text(json.dumps(results), encoding="utf-8")
    ran = ptune("compare", "recipe.yaml", *METHODS, *bar)
    assert ran.code == 3 and "not passed: majority" in ran.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("recipe.yaml", "--budget", "soon"), "'soon' is no time (write 90s, 10m or 2h)"),
        (("recipe.yaml", "--method", "p-tunin"), "did you mean 'p-tuning'"),
        (("recipe.yaml", "--shots", "50"), "50 shots and at least one validation row are wanted"),
        (("nothing.yaml",), "there is no such recipe"),
        (("recipe.yaml", "--set", "stepz=3"), "did you mean 'steps'"),
    ],
)
def test_mistakes_are_one_line(table: Path, ptune: Run, words: tuple[str, ...], message: str) -> None:
    ran = ptune("compare", *words)
    assert ran.code == 2 and len(ran.error_lines) == 1 and message in ran.error_lines[0]


def test_recommend_before_and_after(table: Path, ptune: Run) -> None:
    before = ptune("recommend", "data")
    assert before.code == 0 and "ptune compare data --budget 10m" in before.out
    ptune("compare", "recipe.yaml", *METHODS)
    after = ptune("recommend", "runs/compare-recipe")
    assert after.code == 0 and ("Use " in after.out or "Nothing to recommend" in after.out)
    assert ptune("recommend", "data", "--json").json[0]["rule"] == "advice"


def test_stress(table: Path, ptune: Run) -> None:
    assert ptune("train", "recipe.yaml", "--out", "run", "--quiet").code == 0
    ran = ptune("stress", "run/bundle", "data", "--other", "same=data", "-o", "stress.md")
    assert ran.code == 0, ran.err
    for words in ("typing errors", "lower case", "negation", "other test set: same", "label", "rows as they are"):
        assert words in ran.out
    assert "What the task stands" in Path("stress.md").read_text(encoding="utf-8")
    assert ptune("stress", "run/bundle", "data", "--json", "--rows", "2").json["accuracy"]["num_rows"] == 2
    wrong = ptune("stress", "run/bundle", "data", "--other", "data")
    assert wrong.code == 2 and "'data' is not NAME=DATA" in wrong.err


def test_stress_of_a_task_that_writes(table: Path, ptune: Run) -> None:
    recipe = (
        "task: generation\ntrain: data/texts.jsonl\ntemplate: '{text} So it was{mask}'\nbackbone: ./model\n"
        "method: {name: prompt-tuning, num_tokens: 2}\nsteps: 2\nmax_new_tokens: 4\n"
    )
    (table / "write.yaml").write_text(recipe, encoding="utf-8")
    write_rows(table / "data" / "texts.jsonl", [{"text": f"The {what}", "target": "great"} for what in ("film", "plot")])
    assert ptune("train", "write.yaml", "--out", "wrote", "--quiet").code == 0
    ran = ptune("stress", "wrote/bundle", "data/texts.jsonl", "-o", "stress.md")
    assert ran.code == 0, ran.err
    for words in ("distinct-1", "right answers", "as the task writes", "sampled at temperature 0.7"):
        assert words in ran.out and words in Path("stress.md").read_text(encoding="utf-8")
    assert len(ptune("stress", "wrote/bundle", "data/texts.jsonl", "--json").json["varieties"]) == 4
    wrong = ptune("stress", "wrote/bundle", "data/texts.jsonl", "--other", "same=data/texts.jsonl")
    assert wrong.code == 2 and "another domain is for classification" in wrong.err


def test_further_shots_are_left_out_where_the_command_line_asks_for_some(table: Path, ptune: Run) -> None:
    (table / "further.yaml").write_text(
        (table / "recipe.yaml").read_text(encoding="utf-8")
        + "compare: {methods: [majority, tfidf-svm], shots: 2, seeds: 1, also: {shots: 1, methods: tfidf-svm}}\n",
        encoding="utf-8",
    )

    def rows(*words: str) -> list[tuple[str, int]]:
        return [
            (row["method"], row["shots"]) for row in ptune("compare", "further.yaml", "--quiet", "--json", *words).json["rows"]
        ]

    assert rows() == [("tfidf-svm", 1), ("majority", 2), ("tfidf-svm", 2)]
    assert rows("--shots", "1", "--out", "there") == [("majority", 1), ("tfidf-svm", 1)]


def test_what_is_recommended_is_compared_with_what_was(table: Path, ptune: Run) -> None:
    words = ("--shots", "2", "--seeds", "1", "--quiet", "--method", "majority")
    assert ptune("compare", "recipe.yaml", *words, "--method", "tfidf-svm").code == 0
    bar = ("--out", "now", "--fail-if-worse-than", "runs/compare-recipe")
    ran = ptune("compare", "recipe.yaml", *words, *bar)
    assert ran.code == 3 and "not passed: majority: accuracy 0.500 after 1.000 of TF-IDF + linear SVM" in ran.err
    assert ptune("compare", "recipe.yaml", *words, *bar, "--of", "majority").code == 0
