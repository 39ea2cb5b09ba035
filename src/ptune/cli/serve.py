"""`ptune serve`: answers for a folder of trained tasks over HTTP; `ptune serve-key` makes a key for someone to ask with."""

from pathlib import Path
from typing import Annotated

import typer

from ptune.cli.console import say
from ptune.cli.options import BackboneName
from ptune.errors import PtuneError

__all__ = ["serve", "serve_key"]


def serve(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Holds bundles or runs, one folder each: runs, say.")],
    backbone: BackboneName = None,
    host: Annotated[str, typer.Option(help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one.")] = 8000,
    api_key_file: Annotated[Path | None, typer.Option(help="Hashed keys that may ask; see ptune serve-key.")] = None,
    admin_key_file: Annotated[Path | None, typer.Option(help="Hashed keys that may load, unload and pin tasks.")] = None,
    is_open: Annotated[bool, typer.Option("--open", help="Let other machines ask without a key.")] = False,
    max_queue: Annotated[int, typer.Option(help="Texts that may wait; what is more is answered 429.")] = 256,
    max_wait: Annotated[float, typer.Option(help="Seconds that a text may wait to be begun; then 429.")] = 10.0,
    timeout: Annotated[float, typer.Option(help="Seconds after which a request is given up.")] = 60.0,
    tokens_per_step: Annotated[int, typer.Option(help="Live tokens that are computed at once.")] = 1024,
    max_running: Annotated[int, typer.Option(help="Texts that are written side by side.")] = 32,
    task_memory: Annotated[int, typer.Option(help="Megabytes for tasks; the least recently used go.")] = 1000,
    max_body: Annotated[int, typer.Option(help="Bytes of one request.")] = 1_000_000,
    max_text: Annotated[int, typer.Option(help="Characters of one text.")] = 20_000,
    max_inputs: Annotated[int, typer.Option(help="Texts of one request.")] = 64,
    max_n: Annotated[int, typer.Option(help="Completions of one prompt.")] = 4,
    max_tokens: Annotated[int, typer.Option(help="Tokens that are written for one prompt.")] = 256,
    max_messages: Annotated[int, typer.Option(help="Messages of one conversation.")] = 256,
    max_bundle_bytes: Annotated[int, typer.Option(help="Bytes of one bundle's files.")] = 64_000_000,
    scan_seconds: Annotated[float, typer.Option(help="How often the folder is looked at.")] = 2.0,
    grace_seconds: Annotated[float, typer.Option(help="How long to finish what runs when told to stop.")] = 30.0,
    threads: Annotated[int | None, typer.Option(help="torch's threads; its own number if not given.")] = None,
    int8: Annotated[bool, typer.Option("--int8", help="Use int8 weights: faster on many CPUs.")] = False,
    log_texts: Annotated[bool, typer.Option("--log-texts", help="Write texts into the log too.")] = False,
) -> None:
    """Serve a folder of trained tasks over HTTP."""
    _check_extra()
    from ptune.serve import Limits, ServeSettings
    from ptune.serve import serve as run

    limits = Limits(max_body, max_text, max_inputs, max_n, max_tokens, max_bundle_bytes, max_messages)
    settings = ServeSettings(
        folder,
        backbone=backbone,
        dtype="int8" if int8 else "fp32",
        threads=threads,
        host=host,
        port=port,
        api_key_file=api_key_file,
        admin_key_file=admin_key_file,
        is_open=is_open,
        max_queue=max_queue,
        max_wait=max_wait,
        timeout=timeout,
        tokens_per_step=tokens_per_step,
        max_running=max_running,
        task_bytes=task_memory * 1_000_000,
        scan_seconds=scan_seconds,
        grace_seconds=grace_seconds,
        log_texts=log_texts,
        limits=limits,
    )
    run(settings)


def serve_key(
    file: Annotated[Path, typer.Argument(help="The key file; it is made if it is not there.")],
    name: Annotated[str, typer.Argument(help="Whose key it is; stands in the log.")],
) -> None:
    """Make a key for ptune serve; print it once, keep its hash."""
    from ptune.serve import add_key

    print(add_key(file, name))
    say(f"its hash is in {file}; the key itself is stored nowhere, so hand it on now")


def _check_extra() -> None:
    try:
        import fastapi
        import prometheus_client
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise PtuneError(f"ptune serve needs {error.name}", fix="pip install 'ptune[serve]'") from None
    assert fastapi and prometheus_client
