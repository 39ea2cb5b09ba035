"""`ptune recommend`: what to use on a data set: by the numbers of a comparison, before that by rules of thumb, said as such."""

from pathlib import Path
from typing import Annotated

import typer

from ptune.cli.compare import Language, words_of_data
from ptune.cli.console import print_json
from ptune.cli.options import AsJson, Encoding

__all__ = ["recommend"]


def recommend(
    data: Annotated[
        str, typer.Argument(help="A data file or folder; or the folder of a comparison, to hear its result again.")
    ],
    label: Annotated[str | None, typer.Option(metavar="COLUMN", help="The label's column; found if not given.")] = None,
    encoding: Encoding = None,
    language: Language = None,
    as_json: AsJson = False,
) -> None:
    """Say what to use on your data."""
    from ptune.compare import read_results
    from ptune.compare import recommend as by_numbers

    if (Path(data) / "results.json").is_file():
        summary = read_results(data)
        findings, shown = by_numbers(summary).findings, language or summary.language
    else:
        from ptune.compare import advise, data_facts
        from ptune.recipe import Recipe, read_splits
        from ptune.template import dominant_script

        recipe = Recipe.of(words_of_data(data, label, encoding), where=data)
        splits, fields = read_splits(recipe), recipe.parsed_template().field_names
        script = dominant_script("\n".join(str(row.fields[name]) for row in splits.train[:100] for name in fields))
        spoken = "zh" if script == "unspaced" else "en"
        findings = advise(data_facts(splits.train, fields, language=spoken, has_test=bool(splits.test)), data)
        shown = language or spoken
    if as_json:
        print_json([one.to_dict() for one in findings])
        return
    print("\n".join(one.chinese if shown == "zh" else one.english for one in findings))
