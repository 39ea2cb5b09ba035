"""Bundles on a Hugging Face hub: a folder goes up into a repository, a repository's bundle comes down into the hub's own cache.

Uses huggingface_hub, imported only when called; which hub it asks is `HF_ENDPOINT`, who asks is `HF_TOKEN` or a login. A bundle
on a hub is written `hub:owner/name`, or `owner/name` where there is no folder `owner`.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ptune.errors import BundleError

if TYPE_CHECKING:
    from huggingface_hub import HfApi

__all__ = ["fetch_bundle", "hub_name", "open_repository", "upload_folder"]

_PREFIX = "hub:"
_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
_FILES = ("bundle.json", "*.safetensors", "README.md")


def hub_name(source: str | Path) -> str | None:
    """The id of the hub repository that `source` means, or None where it means a folder."""
    text = source.as_posix() if isinstance(source, Path) else source
    if text.startswith(_PREFIX):
        return text.removeprefix(_PREFIX)
    path = Path(text)
    return text if _NAME.fullmatch(text) and not path.exists() and not path.parent.exists() else None


def fetch_bundle(name: str) -> Path:
    """Brings a bundle down, or finds it in the cache where the hub cannot be reached.

    Args:
        name: the repository's id, `owner/name`.

    Returns:
        A folder that belongs to the hub's cache: to be read only.

    Raises:
        BundleError: the id is malformed, or there is no such repository, no right to read it, or no connection.
    """
    with _plain_errors(name, f"there is no folder {name!r}, and no task of that name can be fetched from the hub"):
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(name, allow_patterns=list(_FILES), endpoint=_endpoint(), library_name="ptune"))


def open_repository(name: str, *, private: bool = False, token: str | None = None) -> str:
    """Makes sure that there is a repository of models to upload to.

    Args:
        name: its id; without an owner it is the user's own.
        private: only the owner sees it. One that exists and is public is then refused.
        token: the user's; None takes `HF_TOKEN` or the login.

    Returns:
        Its whole id.

    Raises:
        BundleError: the id is malformed, the hub refuses, or it cannot be reached.
    """
    with _plain_errors(name, "the repository cannot be made or opened"):
        api = _api(token)
        place = api.create_repo(name, private=private or None, exist_ok=True).repo_id
        if private and not api.model_info(place).private:
            what, fix = "the repository exists and is public", "choose another name, or make it private on the hub first"
            raise BundleError(what, where=place, fix=fix)
        return str(place)


def upload_folder(folder: Path, name: str, *, token: str | None = None, message: str = "Upload a task of ptune") -> str:
    """Puts the files of a folder into a repository, as one commit.

    Args:
        folder: what goes up, whole.
        name: the repository's id.
        token: as in `open_repository`.
        message: of the commit.

    Returns:
        The repository's address.

    Raises:
        BundleError: the hub refuses, or it cannot be reached.
    """
    with _plain_errors(name, "the task cannot be uploaded"):
        api = _api(token)
        api.upload_folder(repo_id=name, folder_path=folder, commit_message=message)
        return f"{api.endpoint}/{name}"


def _api(token: str | None) -> "HfApi":
    from huggingface_hub import HfApi

    return HfApi(endpoint=_endpoint(), token=token, library_name="ptune")


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT") or None


@contextmanager
def _plain_errors(name: str, what: str) -> Iterator[None]:
    """Whatever network, hub and client raise, as one line."""
    try:
        yield
    except BundleError:
        raise
    except Exception as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        fix = {
            401: "log in with `hf auth login`, set HF_TOKEN, or give --token",
            403: "use a token that may do this, or another owner",
            404: "check the name, and whether your token may see it",
        }.get(status or 0, "check the name (owner/name), the network and HF_ENDPOINT")
        raise BundleError(f"{what}: {reason.strip()}", where=name, fix=fix) from error
