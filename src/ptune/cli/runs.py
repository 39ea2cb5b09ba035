"""`ptune runs`: what was run, with what outcome, and what differs between two runs. Reads the run folders; loads no model."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml

from ptune.cli.console import print_json, table
from ptune.cli.figures import FIGURES, figure_lines, figure_of, score_of
from ptune.cli.options import AsJson
from ptune.errors import TrainError

if TYPE_CHECKING:
    from ptune.train import RunFolder

__all__ = ["app"]

app = typer.Typer(name="runs", help="Look up and compare runs.")
_RUNS = Path("runs")
RunName = Annotated[str, typer.Argument(metavar="RUN", help="The folder of a run, or its name in runs/.")]


@dataclass(frozen=True)
class _Run:
    """One run as its folder tells it; `facts` is None until it has finished."""

    name: str
    when: datetime
    recipe: Mapping[str, Any]
    num_steps: int
    facts: Mapping[str, Any] | None

    @property
    def state(self) -> str:
        return "stopped" if self.facts is None else "finished"

    @property
    def method(self) -> str:
        method = self.recipe.get("method", "p-tuning")
        return str(method.get("name") if isinstance(method, Mapping) else method)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        tuned = (self.facts or {}).get("tuned", {})
        return {
            "run": self.name,
            "when": self.when.isoformat(timespec="seconds"),
            "backbone": self.recipe.get("backbone"),
            "method": self.method,
            "steps": self.num_steps,
            "metric": tuned.get("metric", "accuracy" if tuned else None),
            "score": score_of(tuned),
            "accuracy": tuned.get("accuracy"),
            "state": self.state,
        }


@app.command("list")
def list_runs(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="Where the runs are.")] = _RUNS, as_json: AsJson = False
) -> None:
    """List runs, the newest first."""
    if not folder.is_dir():
        raise TrainError("there is no such folder", where=str(folder), fix="name the folder that holds the runs")
    runs = [_read(_folder(path)) for path in folder.iterdir() if (path / "recipe.yaml").is_file()]
    facts = [run.to_dict() for run in sorted(runs, key=lambda run: run.when, reverse=True)]
    if as_json:
        print_json(facts)
        return
    rows = [["run", "when", "backbone", "method", "steps", "figure", "score", "state"]]
    for run in facts:
        score = "-" if run["score"] is None else f"{run['score']:.3f}"
        figure = "-" if run["metric"] is None else run["metric"].replace("_", " ")
        when = run["when"].replace("T", " ")[:16]
        rows.append([run["run"], when, str(run["backbone"]), run["method"], str(run["steps"]), figure, score, run["state"]])
    print(table(rows) if facts else f"no runs in {folder}")


@app.command()
def show(name: RunName, as_json: AsJson = False) -> None:
    """Show one run: its recipe and its figures."""
    folder = _find(name)
    run = _read(folder)
    if as_json:
        print_json({**run.to_dict(), "recipe": run.recipe, "facts": run.facts})
        return
    print(f"run                 {folder.path}, {run.when:%Y-%m-%d %H:%M}, {run.num_steps} steps done, {run.state}")
    for key, value in _flat(run.recipe).items():
        print(f"  {key:<18}{value!r}")
    if run.facts is not None:
        print("\n".join(figure_lines(run.facts)))
        print(f"bundle              {folder.bundle_path}")


@app.command()
def diff(first: RunName, second: RunName, as_json: AsJson = False) -> None:
    """Show where the recipes of two runs differ, and their figures side by side."""
    folders = _find(first), _find(second)
    runs = [_read(folder) for folder in folders]
    recipes = [_flat(run.recipe) for run in runs]
    keys = [key for key in dict.fromkeys((*recipes[0], *recipes[1])) if recipes[0].get(key) != recipes[1].get(key)]
    differing = {key: [recipe.get(key) for recipe in recipes] for key in keys}
    figures = {name: [figure_of(run.facts or {}, name) for run in runs] for name in FIGURES}
    figures = {name: values for name, values in figures.items() if values != [None, None]}
    if as_json:
        print_json({"runs": [str(folder.path) for folder in folders], "recipe": differing, "figures": figures})
        return
    rows = [["", *(run.name for run in runs)]]
    rows += [[key, *("-" if value is None else str(value) for value in values)] for key, values in differing.items()]
    rows += [[name, *map(_number, values)] for name, values in figures.items()]
    print(table(rows))
    if not differing:
        print("the recipes are the same")


def _folder(path: Path) -> "RunFolder":
    from ptune.train import RunFolder

    return RunFolder(path)


def _find(name: str) -> "RunFolder":
    for path in (Path(name), _RUNS / name):
        if (path / "recipe.yaml").is_file():
            return _folder(path)
    raise TrainError(f"there is no run {name!r}", where="runs", fix="`ptune runs list` shows those in runs/")


def _read(folder: "RunFolder") -> _Run:
    try:
        recipe = yaml.safe_load(folder.recipe_path.read_text(encoding="utf-8"))
        facts = json.loads(folder.summary_path.read_text(encoding="utf-8")) if folder.summary_path.exists() else None
    except (yaml.YAMLError, ValueError, OSError) as error:
        raise TrainError(f"the run cannot be read: {error}", where=str(folder.path)) from None
    steps = [event["step"] for event in folder.events() if event.get("event") == "step"]
    files = (folder.recipe_path, folder.events_path, folder.summary_path)
    when = max(file.stat().st_mtime for file in files if file.exists())
    return _Run(folder.path.name, datetime.fromtimestamp(when), recipe, max(steps, default=0), facts)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys with dots; `method: {name: p-tuning, encoder: lstm}` gives `method` and `method.encoder`."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        path = "method" if (prefix, key) == ("method.", "name") else f"{prefix}{key}"
        flat |= _flat(value, f"{path}.") if isinstance(value, Mapping) else {path: value}
    return flat


def _number(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else f"{value:,}"
