"""`ptune push`: puts a trained task on a Hugging Face hub."""

from typing import Annotated

import typer

from ptune.cli.console import print_json
from ptune.cli.options import AsJson, BundlePath
from ptune.errors import notice

__all__ = ["push"]


def push(
    bundle: BundlePath,
    name: Annotated[str, typer.Argument(metavar="REPO_ID", help="The repository: owner/name, or name for one of your own.")],
    private: Annotated[bool, typer.Option("--private", help="Only you and your organisation see it.")] = False,
    token: Annotated[
        str | None, typer.Option("--token", metavar="TOKEN", help="Yours on the hub; better is HF_TOKEN or `hf auth login`.")
    ] = None,
    no_examples: Annotated[
        bool, typer.Option("--no-examples", help="Leave out the training texts that the model card shows.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Put a trained task on the Hugging Face hub (or the one at HF_ENDPOINT)."""
    from ptune.bundle import num_shown_texts, push_bundle, read_bundle

    shown = num_shown_texts(read_bundle(bundle).card)
    if shown and not no_examples:
        notice(f"{shown} training texts go along as examples; --no-examples leaves them out")
    url = push_bundle(bundle, name, private=private, token=token, with_examples=not no_examples)
    if as_json:
        print_json({"url": url})
    else:
        print(url)
