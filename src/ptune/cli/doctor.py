"""`ptune doctor`: what ptune runs on, where it looks for models, and whether the engine computes right. Asks no network."""

import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import typer

from ptune.cli.console import print_json, say
from ptune.cli.options import AsJson

__all__ = ["doctor"]

_PACKAGES = ("ptune", "torch", "transformers", "tokenizers", "accelerate", "safetensors", "pydantic", "datasets", "pyarrow")
_TOLERANCE = 1e-4


def doctor(as_json: AsJson = False) -> None:
    """Show versions, device, memory and caches, and test the engine."""
    facts = {**_software(), **_machine(), **_models(), **_network(), **_self_test()}
    if as_json:
        print_json(facts)
    else:
        for key, value in facts.items():
            print(f"{key.replace('_', ' '):<18}{_plain(value)}")
    if not facts["self_test_passed"]:
        say("error: the self test failed: kept contexts are not exact here (set keep_context: false, and please report it)")
        raise typer.Exit(1)


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {number}" for name, number in value.items())
    if isinstance(value, list):
        return ", ".join(value) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _software() -> dict[str, Any]:
    return {
        "python": f"{platform.python_version()} ({sys.executable})",
        "system": platform.platform(),
        "packages": {name: _version(name) for name in _PACKAGES},
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def _machine() -> dict[str, Any]:
    import psutil
    import torch

    memory = psutil.virtual_memory()
    device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    return {
        "device": device,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory": f"{memory.available / 1e9:.1f} of {memory.total / 1e9:.1f} GB free",
    }


def _models() -> dict[str, Any]:
    from ptune.backbone.catalogue import cache_dir, catalogue, local_folder

    here = [name for name, model in catalogue().items() if local_folder(model)]
    return {"cache": str(cache_dir()), "models_here": here}


def _network() -> dict[str, Any]:
    """Where models would come from: pip's index for `ptune models pull`, the hub for hub ids."""
    command = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    has_pip = "No module named pip" not in ran.stderr
    index = os.environ.get("PIP_INDEX_URL") or (ran.stdout.strip() if ran.returncode == 0 else "")
    return {
        "pip": has_pip,
        "pip_index": _without_password(index or "https://pypi.org/simple (pip's default)"),
        "hub": os.environ.get("HF_ENDPOINT", "https://huggingface.co (HF_ENDPOINT is not set)"),
    }


def _without_password(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}" if separator else url


def _self_test() -> dict[str, Any]:
    from ptune.backbone.self_test import self_test

    error = self_test()
    return {"self_test_passed": error < _TOLERANCE, "self_test_error": f"{error:.1e}"}
