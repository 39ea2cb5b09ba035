"""`README.md` of a bundle: what the task is, how good it was and how to use it, as the Hugging Face hub shows model cards.

In: the bundle's card (`bundle.json`). Out: markdown with YAML in front (library, base model, kind of task, metrics, results).
It is for people and for a hub's search; nothing reads it back. What users wrote is escaped, so that it stays text in any cell.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ptune.backbone import catalogue
from ptune.template import Template

__all__ = ["MODEL_CARD", "model_card"]

MODEL_CARD = "README.md"

_PIPELINES = {
    "classification": "text-classification",
    "entailment": "text-classification",
    "multi-label": "text-classification",
    "regression": "text-classification",
    "choice": "multiple-choice",
    "tagging": "token-classification",
    "qa": "question-answering",
    "generation": "text-generation",
    "dialogue": "text-generation",
}
# The hub's name of a metric, and how people write it.
_METRICS = {
    "accuracy": ("accuracy", "accuracy"),
    "macro_f1": ("f1", "macro-F1"),
    "micro_f1": ("f1", "micro-F1"),
    "f1": ("f1", "F1"),
    "exact": ("exact_match", "exact match"),
    "spearman": ("spearmanr", "Spearman's correlation"),
    "rouge_l": ("rouge", "ROUGE-L"),
    "bleu": ("bleu", "BLEU"),
    "chrf": ("chrf", "chrF"),
}
_STAGES = {"zero_shot": "template without training", "prior_corrected": "the same, prior corrected", "tuned": "trained"}
_DATA_KEYS = ("train", "validation", "test", "template", "labels", "backbone", "columns", "encoding")
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")
_NUM_CHARACTERS = 100
_NUM_EXAMPLES = 3
_NUM_LABELS = 40


def model_card(card: Mapping[str, Any], *, source: str = "path/to/this/folder") -> str:
    """Writes the model card.

    Args:
        card: the bundle's card.
        source: what the snippet loads: a folder, or the id of a hub repository.
    """
    parts = [_front_matter(card), *_introduction(card), *_use(card, source), *_labels(card)]
    parts += [*_figures(card), *_training(card), *_log(card), *_versions(card)]
    return "\n\n".join(parts) + "\n"


# ---- the front matter


def _front_matter(card: Mapping[str, Any]) -> str:
    kind, method = _kind(card), str(card["task"]["method"]["name"])
    base = _hub_id(card["backbone"]["name"])
    data: dict[str, Any] = {"library_name": "ptune"}
    if base is not None:
        data |= {"base_model": base, "base_model_relation": "adapter"}
    data |= {
        "pipeline_tag": _PIPELINES.get(kind, "text-classification"),
        "tags": list(dict.fromkeys(["ptune", "prompt-learning", method, kind])),
        "inference": False,  # the hub's own widget knows no learned prompts
    }
    figures = dict(_main_figures(card.get("tuned") or {}))
    if figures:
        data["metrics"] = list(dict.fromkeys(_METRICS[name][0] for name in figures if name in _METRICS))
        data["model-index"] = [{"name": _title(card), "results": [_results(card, figures)]}]
    return f"---\n{yaml.safe_dump(data, allow_unicode=True, sort_keys=False)}---"


def _results(card: Mapping[str, Any], figures: Mapping[str, float]) -> dict[str, Any]:
    kind, rows = _kind(card), card["tuned"].get("num_rows")
    judged = card.get("judged_on") or "test"
    return {
        "task": {"type": _PIPELINES.get(kind, "text-classification"), "name": kind},
        "dataset": {"name": f"{judged} ({rows} rows)", "type": "custom", "split": judged},
        "metrics": [
            {"type": _METRICS.get(name, (name, name))[0], "value": round(value, 4), "name": _METRICS.get(name, (name, name))[1]}
            for name, value in figures.items()
        ],
    }


def _hub_id(name: str) -> str | None:
    """The backbone's place on the hub, where it is known: from the catalogue, or the name itself."""
    if name in catalogue():
        return catalogue()[name].hub_id
    return name if _HUB_ID.fullmatch(name) and not Path(name).exists() else None


# ---- the parts of the text


def _kind(card: Mapping[str, Any]) -> str:
    return str(card["task"].get("kind", "classification"))


def _backbone_name(card: Mapping[str, Any]) -> str:
    """The backbone as people call it: not by its place on somebody's disk."""
    name = str(card["backbone"]["name"])
    return name if _HUB_ID.fullmatch(name) else Path(name).name or name


def _title(card: Mapping[str, Any]) -> str:
    return f"{_kind(card)} by {card['task']['method']['name']} on {_backbone_name(card)}"


def _introduction(card: Mapping[str, Any]) -> Iterator[str]:
    yield f"# {_escaped(_title(card))}"
    trained, tune = card.get("trained_parameters"), card["task"].get("tune", "frozen")
    learned = f"the {trained:,} parameters that were learned" if trained else "what was learned"
    own = (
        "the frozen model itself is not in it"
        if tune == "frozen"
        else f"and the weights that were trained with it (`tune: {tune}`)"
    )
    yield (
        f"A task for [{_escaped(_backbone_name(card))}]({_link(card)}) made with ptune: a template, and {learned}"
        f"{';' if tune == 'frozen' else ','} {own}."
    )
    template = str(card["task"].get("template") or "")
    if not template:
        return
    fence = "`" * (max([2, *map(len, re.findall("`+", template))]) + 1)
    yield f"Template:\n\n{fence}text\n{template}\n{fence}"


def _link(card: Mapping[str, Any]) -> str:
    base = _hub_id(card["backbone"]["name"])
    return f"https://huggingface.co/{base}" if base else "#versions"


def _use(card: Mapping[str, Any], source: str) -> Iterator[str]:
    yield (
        "## Use\n\n```python\nimport ptune\n\n"
        f'task = ptune.load("{source}")\nprint(task.predict([{_row(card)}]))\n```\n\n'
        f"On the command line: `ptune predict {source} FILE`. Install it with `pip install ptune`. The task fits this "
        "backbone only, by the fingerprint of its weights; ptune refuses any other."
    )


def _row(card: Mapping[str, Any]) -> str:
    """A row as the task reads it, for the snippet."""
    task = card["task"]
    fields = Template.parse(str(task["template"])).field_names if task.get("template") else ()
    choices = (task.get("columns") or {}).get("choices")
    names = list(dict.fromkeys([*fields, *([choices] if choices else [])]))
    if _kind(card) == "dialogue":
        return '{"messages": [{"role": "user", "content": "..."}]}'
    if len(names) < 2 and _kind(card) != "tagging":
        return '"..."'
    listed = set(names) if _kind(card) == "tagging" else {choices}
    values = (f'"{name}": ["...", "..."]' if name in listed else f'"{name}": "..."' for name in names)
    return "{" + ", ".join(values) + "}"


def _labels(card: Mapping[str, Any]) -> Iterator[str]:
    names = [str(name) for name in card["task"].get("labels") or ()]
    if not names:
        return
    words = (card["task"].get("verbalizer") or {}).get("words", {})
    shown: Mapping[str, Sequence[str]] = (card.get("data") or {}).get("examples") or {}
    header = ["label", *(["label words"] if words else []), *(["training examples"] if shown else [])]
    rows = [header]
    for name in names[:_NUM_LABELS]:
        row = [_escaped(name)]
        row += [", ".join(map(_escaped, words.get(name, ())))] if words else []
        row += ["<br>".join(map(_escaped, list(shown.get(name, ()))[:_NUM_EXAMPLES]))] if shown else []
        rows.append(row)
    rest = len(names) - _NUM_LABELS
    yield "## Labels\n\n" + _table(rows) + (f"\n\nand {rest} more in `bundle.json`." if rest > 0 else "")


def _figures(card: Mapping[str, Any]) -> Iterator[str]:
    stages = {name: dict(_main_figures(card[key])) for key, name in _STAGES.items() if isinstance(card.get(key), Mapping)}
    if not any(stages.values()):
        return
    names = list(dict.fromkeys(name for figures in stages.values() for name in figures))
    rows = [["", *(_METRICS.get(name, (name, name))[1] for name in names)]]
    for stage, figures in stages.items():
        rows.append([stage, *(f"{figures[name]:.3f}" if name in figures else "" for name in names)])
    tuned = card.get("tuned") or {}
    note = f"Judged on {tuned['num_rows']} {card.get('judged_on') or 'test'} rows." if "num_rows" in tuned else ""
    of = "accuracy" if "accuracy" in (*tuned, tuned.get("metric")) else "exact match" if "exact" in tuned else None
    if of is not None and "interval" in tuned:
        low, high = tuned["interval"]
        note += f" 95 % interval of the {of}: {low:.3f} to {high:.3f}."
    yield "## Figures\n\n" + _table(rows) + (f"\n\n{note.strip()}" if note else "")


def _main_figures(report: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """The main figure of a report of any kind, then the others that have a name here."""
    if "metric" in report and isinstance(report.get("score"), int | float):
        yield str(report["metric"]), float(report["score"])
    for name in _METRICS:
        if isinstance(report.get(name), int | float) and name != report.get("metric"):
            yield name, float(report[name])


def _training(card: Mapping[str, Any]) -> Iterator[str]:
    rows: list[list[str]] = []
    data, training, recipe = card.get("data") or {}, card.get("training") or {}, card.get("recipe") or {}
    if "train_rows" in data:
        rows.append(["training rows", f"{data['train_rows']} (fingerprint {str(data.get('train_fingerprint', ''))[:12]})"])
    if "trained_parameters" in card:
        share = 100 * float(card.get("trained_share", 0))
        rows.append(["trained parameters", f"{card['trained_parameters']:,} ({share:.4f} % of the backbone)"])
    if "steps" in training:
        early = ", stopped early" if training.get("stopped_early") else ""
        rows.append(
            ["steps", f"{training['steps']} in {training.get('seconds', 0)} s{early}, best at {training.get('best_step')}"]
        )
    if "first_loss" in training and "last_loss" in training:
        rows.append(["loss before and after", f"{training['first_loss']:.4f}, {training['last_loss']:.4f}"])
    if training.get("candidates"):
        rows.append(["candidate kept", f"{training.get('chosen') or 'all'} of {len(training['candidates'])}"])
    if "peak_memory_mb" in card:
        rows.append(["peak memory", f"{card['peak_memory_mb']:,} MB"])
    for key, value in recipe.items():
        if key not in _DATA_KEYS:
            rows.append([_escaped(str(key)), _escaped(str(value))])
    if rows:
        yield "## Training\n\n" + _table([["", ""], *rows])


def _log(card: Mapping[str, Any]) -> Iterator[str]:
    log = (card.get("training") or {}).get("log") or []
    if not log:
        return
    names = list(dict.fromkeys(name for entry in log for name in entry))
    rows = [names, *([_number(entry.get(name)) for name in names] for entry in log)]
    yield "### Training log\n\n" + _table(rows)


def _number(value: Any) -> str:
    return "" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)


def _versions(card: Mapping[str, Any]) -> Iterator[str]:
    backbone = card["backbone"]
    versions = {"ptune": card.get("ptune", "?"), **card["versions"]}
    listed = ", ".join(f"{name} {number}" for name, number in versions.items())
    yield (
        f"## Versions\n\n{_escaped(listed)}. Backbone: {_escaped(_backbone_name(card))} ({backbone['kind']}), "
        f"fingerprint `{backbone['fingerprint']}`."
    )


# ---- markdown


def _table(rows: Sequence[Sequence[str]]) -> str:
    header, *body = rows
    lines = [header, ["---"] * len(header), *body]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _escaped(text: str) -> str:
    """A text as one short line that markdown and HTML leave alone."""
    line = " ".join(text.split())
    if len(line) > _NUM_CHARACTERS:
        line = line[:_NUM_CHARACTERS].rstrip() + " …"
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]#|~!])", r"\\\1", line)
