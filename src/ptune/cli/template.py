"""`ptune template`: what a recipe's template and label words become on its backbone, and templates to start from."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ptune.cli.console import print_json, table
from ptune.cli.options import AsJson, Override
from ptune.errors import TemplateError

if TYPE_CHECKING:
    from ptune.recipe.check import RenderedRow, TemplateCheck
    from ptune.template import Entry

__all__ = ["app"]

app = typer.Typer(name="template", help="Check and choose templates.")
_TITLES = {"soft": "learned", "special": "special", "answer": "answer", "": "template"}


@app.command()
def check(
    recipe: Annotated[Path, typer.Argument(help="The recipe, a YAML file.")],
    overrides: Override = None,
    rows: Annotated[int, typer.Option(min=0, help="How many training rows to show.")] = 3,
    as_json: AsJson = False,
) -> None:
    """Show what the model will read, token by token, and warn of what usually costs accuracy."""
    from ptune.recipe import check_recipe, parse_override, read_recipe

    chosen = read_recipe(recipe, dict(parse_override(text) for text in overrides or ()))
    checked = check_recipe(chosen, num_rows=rows)
    if as_json:
        print_json(checked.to_dict())
    else:
        print("\n\n".join(_sections(checked)))
    if checked.num_errors:
        what = f"the template has {checked.num_errors} error{'s' if checked.num_errors > 1 else ''}"
        raise TemplateError(what, where=str(recipe), fix="see the findings above")


def _sections(checked: "TemplateCheck") -> list[str]:
    parts = [f"template  {checked.template!r}\nbackbone  {checked.backbone} ({checked.kind})"]
    if checked.words:
        lines = [["label", "word", "tokens", "prior"]]
        for word in checked.words:
            prior = checked.priors.get(word.label)
            lines.append([word.label, repr(word.text), _joined(word.tokens), "-" if prior is None else f"{prior:.3f}"])
        parts.append(table(lines) + (f"\nwords are scored by the {checked.length_rule}" if checked.length_rule else ""))
    parts += [_row_lines(row) for row in checked.rows]
    parts.append("\n".join(f"{finding.level}: {finding.message}" for finding in checked.findings) or "nothing to warn of")
    return parts


def _row_lines(row: "RenderedRow") -> str:
    """One line for each run of tokens from the same source; a field's name stands in braces."""
    runs: list[tuple[str, list[str]]] = []
    for piece in row.pieces:
        title = _TITLES.get(piece.source, f"{{{piece.source}}}")
        if not runs or runs[-1][0] != title:
            runs.append((title, []))
        runs[-1][1].append(piece.text)
    width = max(len(title) for title, _ in runs)
    cut = f", shortened by {row.num_cut} tokens" if row.num_cut else ""
    lines = [f"  {title:<{width}}  {_joined(texts)}" for title, texts in runs]
    return "\n".join([f"{row.where or 'row'} ({row.label}, {row.num_tokens} tokens{cut})", *lines])


def _joined(texts: list[str] | tuple[str, ...]) -> str:
    return "|".join(text.replace("\n", "\\n").replace("\t", "\\t") for text in texts)


@app.command("list")
def list_templates(
    task: Annotated[str | None, typer.Option(help="Only for this task, such as sentiment.")] = None,
    language: Annotated[str | None, typer.Option(help="Only in this language: en or zh.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the library of templates."""
    from ptune.template import templates

    entries = templates(task, language)
    if as_json:
        print_json([_facts(entry) for entry in entries])
        return
    if not entries:
        raise TemplateError(
            "no template in the library fits",
            where="--task, --language",
            fix=f"tasks are {', '.join(dict.fromkeys(entry.task for entry in templates()))}; languages are en and zh",
        )
    rows = [["id", "backbones", "template"]]
    rows += [[entry.id, ", ".join(entry.kinds), repr(str(entry.template))] for entry in entries]
    print(table(rows))


@app.command()
def show(
    name: Annotated[str, typer.Argument(metavar="ID", help="An id of `ptune template list`.")], as_json: AsJson = False
) -> None:
    """Show a template of the library with its label words."""
    from ptune.template import template

    entry = template(name.removeprefix("library:"))
    facts = _facts(entry)
    if as_json:
        print_json(facts)
        return
    for key, value in facts.items():
        print(f"{key:<9} {_plain(value)}")
    print(f"{'use':<9} template: library:{entry.id}")


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{label}: {', '.join(words)}" for label, words in value.items()) or "to be filled in"
    return ", ".join(value) if isinstance(value, list) else value.replace("\n", "\\n")


def _facts(entry: "Entry") -> dict[str, Any]:
    labels = {label: list(words) for label, words in entry.labels.items()}
    plain = {key: value for key, value in vars(entry).items() if key not in ("template", "labels", "kinds")}
    return {**plain, "template": str(entry.template), "kinds": list(entry.kinds), "labels": labels}
