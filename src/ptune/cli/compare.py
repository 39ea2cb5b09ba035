"""`ptune compare`: many methods on the same rows, with equal chances; a table, a report, and a recommendation in words.

A run that was stopped goes on when the same command is given again. Exit code 3 says that a bar was not met (`--fail-under`,
`--fail-if-worse-than`).
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ptune.cli.console import print_json, say, table
from ptune.cli.options import AsJson, Encoding, Override
from ptune.errors import RecipeError

if TYPE_CHECKING:
    from ptune.compare import Earlier, Recommendation, Spec, Summary

__all__ = ["compare", "words_of_data"]

_RUNS = Path("runs")
_SHOTS = (4, 16, 64)
_BAR_NOT_MET = 3
_TEST_SHARE = 0.3
_UNITS = {"s": 1, "m": 60, "h": 3600}

Language = Annotated[
    Literal["en", "zh"] | None, typer.Option("--language", help="Of what is printed; the texts' own if not given.")
]


def compare(
    source: Annotated[
        str, typer.Argument(help="A recipe (.yaml), with or without a section compare:, or a data file or folder.")
    ],
    overrides: Override = None,
    methods: Annotated[
        list[str] | None, typer.Option("--method", metavar="NAME", help="A method, `core` or `all`; may be repeated.")
    ] = None,
    backbones: Annotated[
        list[str] | None, typer.Option("--backbone", metavar="NAME", help="A model to run on; may be repeated.")
    ] = None,
    shots: Annotated[
        list[int] | None, typer.Option("--shots", help="Rows of each label to learn from; may be repeated.")
    ] = None,
    seeds: Annotated[int | None, typer.Option("--seeds", min=1, help="How many seeds, each with rows of its own.")] = None,
    trials: Annotated[int | None, typer.Option("--trials", min=1, help="Settings that each method may choose from.")] = None,
    test_rows: Annotated[int | None, typer.Option("--test-rows", min=1, help="Rows that are judged, the same for all.")] = None,
    budget: Annotated[str | None, typer.Option("--budget", metavar="TIME", help="How long it may take: 90s, 10m, 2h.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the comparison; runs/compare-NAME if not given.")] = None,
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Processes, each with models of its own.")] = 1,
    retry: Annotated[bool, typer.Option("--retry", help="Try again what failed.")] = False,
    label: Annotated[str | None, typer.Option(metavar="COLUMN", help="The label's column of a data file.")] = None,
    encoding: Encoding = None,
    language: Language = None,
    fail_under: Annotated[float | None, typer.Option("--fail-under", help="Exit with 3 below this accuracy.")] = None,
    fail_if_worse_than: Annotated[
        Path | None,
        typer.Option("--fail-if-worse-than", metavar="RUN", help="Exit with 3 when worse than this comparison or run."),
    ] = None,
    of: Annotated[
        str | None, typer.Option("--of", metavar="METHOD", help="The method that must pass; the recommended one if not given.")
    ] = None,
    as_json: AsJson = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Compare methods on your data, and say what to use."""
    from ptune.compare import read_earlier, read_spec, recommend, run_jobs, summarise, write_report

    earlier = None if fail_if_worse_than is None else read_earlier(fail_if_worse_than)  # the run may write to the same folder
    seconds = None if budget is None else seconds_of(budget)
    given = _given(methods, backbones, shots, seeds, trials, test_rows)
    if Path(source).suffix.lower() in (".yaml", ".yml"):
        from ptune.recipe import parse_override

        spec = read_spec(source, dict(parse_override(text) for text in overrides or ()), given)
    else:
        spec = _drafted_spec(source, label, encoding, given, overrides or [])
    folder = out or _RUNS / f"compare-{spec.name}"
    hear = (lambda line: None) if quiet else say
    try:
        outcome = run_jobs(spec, folder, jobs, budget_seconds=seconds, retry=retry, say=hear)
    except KeyboardInterrupt:
        say("stopped; the same command goes on where it was")
        raise typer.Exit(130) from None
    summary = summarise(outcome)
    advice = recommend(summary)
    report = write_report(summary, advice, folder)
    _show(summary, advice, report, language or summary.language, as_json=as_json)
    hear(f"{outcome.num_computed} of {len(outcome.cells)} cells computed in {outcome.seconds:.0f} s, the others were there")
    _guard(summary, advice, of, fail_under, earlier)


def seconds_of(text: str) -> float:
    """`90s`, `10m` or `2h` in seconds.

    Raises:
        RecipeError: no such time.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", text.strip().lower())
    if match is None or float(match[1]) <= 0:
        raise RecipeError(f"{text!r} is no time", where="--budget", fix="write 90s, 10m or 2h")
    return float(match[1]) * _UNITS[match[2] or "s"]


def words_of_data(source: str, label: str | None, encoding: str | None) -> dict[str, Any]:
    """The words of a recipe drafted for a data set, as `ptune init` drafts it, with learned tokens behind the text.

    Raises:
        DataError: see `draft`.
    """
    from ptune.backbone import catalogue
    from ptune.cli.draft import draft

    drafted = draft(source, label=label, encoding=encoding)
    for remark in drafted.remarks:
        say(f"note: {remark}")
    suited = [one for one in catalogue().values() if one.kind == "decoder" and drafted.language in one.languages]
    backbone = min(suited, key=lambda one: one.languages.index(drafted.language)).name
    words: dict[str, Any] = {
        "train": source,
        "validation": source if "validation" in drafted.splits else None,
        "test": source if "test" in drafted.splits else None,
        "label": drafted.label,
        "columns": dict(drafted.columns) or None,
        "encoding": encoding,
        "template": drafted.soft_template,
        "labels": {name: list(listed) for name, listed in drafted.words.items()},
        "terminator": drafted.terminator or None,
        "backbone": backbone,
    }
    return {key: value for key, value in words.items() if value is not None}


def _drafted_spec(
    source: str, label: str | None, encoding: str | None, given: dict[str, Any], overrides: Sequence[str]
) -> "Spec":
    """A comparison of a data set alone: shots that its rarest label has rows for."""
    from ptune.compare import make_spec
    from ptune.recipe import parse_override

    words = {**words_of_data(source, label, encoding), **dict(parse_override(text) for text in overrides)}
    if "shots" not in given:
        given = {**given, "shots": _fitting_shots(words)}
    return make_spec(words, given, name=Path(source).stem, where=source)


def _fitting_shots(words: dict[str, Any]) -> list[int]:
    """Of 4, 16 and 64 those that leave as many rows of each label for validation, and a test set where there is none."""
    from collections import Counter

    from ptune.recipe import Recipe, read_splits

    rows = read_splits(Recipe.of(words, where="draft")).train
    fewest = min(Counter(row.label for row in rows).values())
    room = fewest if words.get("test") is not None else int(fewest * (1 - _TEST_SHARE))
    per_label = room if words.get("validation") is not None else room // 2
    return [shots for shots in _SHOTS if shots <= per_label] or [max(1, per_label)]


def _given(
    methods: list[str] | None,
    backbones: list[str] | None,
    shots: list[int] | None,
    seeds: int | None,
    trials: int | None,
    test_rows: int | None,
) -> dict[str, Any]:
    """Settings from the command line, those that were given."""
    values = {
        "methods": methods or None,
        "backbones": backbones or None,
        "shots": shots or None,
        "seeds": None if seeds is None else list(range(1, seeds + 1)),
        "trials": trials,
        "test_rows": test_rows,
    }
    narrowed = {"also": ()} if shots or backbones else {}  # what the command line asks for is all that is run
    return {**{key: value for key, value in values.items() if value is not None}, **narrowed}


def _show(summary: "Summary", advice: "Recommendation", report: Path, language: str, *, as_json: bool) -> None:
    if as_json:
        print_json({**summary.to_dict(), "recommendation": advice.to_dict(), "report": str(report)})
        return
    rows = [["method", "model", "accuracy", "deviation", "95 % interval", "to the best", "learning s", "stored kB"]]
    for row in summary.of_shots(summary.main_shots):
        assert row.accuracy is not None
        spread = "-" if row.accuracy.deviation is None else f"{row.accuracy.deviation:.3f}"
        span = f"{row.accuracy.low:.3f} to {row.accuracy.high:.3f}"
        apart = "-" if row.from_best is None else f"{row.from_best.mean:+.3f} {row.from_best.verdict}"
        verdict = "best" if row.is_best else apart
        price = f"{row.train_seconds:.1f}", f"{row.num_bytes / 1000:,.1f}"
        rows.append([row.title, row.backbone or "-", f"{row.mean:.3f}", spread, span, verdict, *price])
    print(f"{summary.main_shots} rows of each label, {len(summary.spec['seeds'])} seeds:\n{table(rows)}\n")
    print("\n".join(one.chinese if language == "zh" else one.english for one in advice.findings))
    print(f"\nreport  {report}")


def _guard(summary: "Summary", advice: "Recommendation", of: str | None, bar: float | None, earlier: "Earlier | None") -> None:
    """Exits with 3 where a bar is not met."""
    from ptune.compare import behind, below_bar, guarded_row

    if bar is None and earlier is None:
        return
    row = guarded_row(summary, advice, of)
    fallen = "" if earlier is None else behind(row, summary, earlier, is_named=of is not None)
    faults = ["" if bar is None else below_bar(row, bar), fallen]
    for fault in filter(None, faults):
        say(f"not passed: {fault}")
    if any(faults):
        raise typer.Exit(_BAR_NOT_MET)
    say(f"passed: {row.method}, accuracy {row.mean:.3f}")
