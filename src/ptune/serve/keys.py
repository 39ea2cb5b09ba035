"""API keys: written once for the one who will use them, kept as hashes, compared in constant time.

In: a key file with lines `NAME sha256:HEX`. Out: whose key a request carries. Keys are 256 random bits, so that their plain
hash gives nothing away and no slow one is needed. `add_key` makes a key and appends its hash; the key itself is stored nowhere.
"""

import hashlib
import hmac
import os
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

from ptune.serve.refusals import ServeError

__all__ = ["Keys", "add_key", "read_keys"]

_LINE = re.compile(r"([A-Za-z0-9][\w.-]{0,63}) sha256:([0-9a-f]{64})")
_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,63}")
_PREFIX = "pt-"


@dataclass(frozen=True)
class Keys:
    """Who may ask.

    Args:
        digests: name and SHA-256 of each key.
    """

    digests: tuple[tuple[str, bytes], ...] = ()

    def owner(self, authorization: str | None) -> str | None:
        """The name of the key in an `Authorization: Bearer ...` header; None for a wrong or missing one.

        Every stored hash is compared, so that the time taken tells nothing.
        """
        scheme, _, key = (authorization or "").partition(" ")
        given = hashlib.sha256(key.strip().encode("utf-8", "surrogateescape")).digest()
        found = None
        for name, digest in self.digests:
            if hmac.compare_digest(given, digest):
                found = name
        return found if scheme.lower() == "bearer" else None


def read_keys(path: Path) -> Keys:
    """Keys of a file; empty lines and lines that begin with # are passed over.

    Raises:
        ServeError: no such file, no keys in it, or a line that is none (it may be a bare key, so it is not shown).
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = (error.strerror or str(error)).lower() if isinstance(error, OSError) else "it is no text"
        raise ServeError(
            f"the key file cannot be read: {reason}",
            where=str(path),
            fix=f"write one: {_how(path)}, and let the server read it",
        ) from None
    digests = []
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.startswith("#"):
            match = _LINE.fullmatch(line.strip())
            if match is None:
                raise ServeError(
                    "the line is not NAME sha256:HEX", where=f"{path}:{number}", fix=f"add keys with: {_how(path)}"
                )
            digests.append((match[1], bytes.fromhex(match[2])))
    if not digests:
        raise ServeError("the key file holds no key", where=str(path), fix=f"add one: {_how(path)}")
    return Keys(tuple(digests))


def add_key(path: Path, name: str) -> str:
    """Makes a key, appends its hash to the file, and returns the key, which nothing can show again.

    Raises:
        ServeError: a name that is none or is taken, or a file that cannot be written.
    """
    if not _NAME.fullmatch(name):
        raise ServeError(f"{name!r} is no name for a key", where="NAME", fix="use letters, digits, dots, dashes, underscores")
    if path.is_file() and path.stat().st_size and any(one == name for one, _ in read_keys(path).digests):
        raise ServeError(
            f"there is a key named {name} already", where=str(path), fix="take its line out first, or name another"
        )
    key = _PREFIX + secrets.token_urlsafe(32)
    line = f"{name} sha256:{hashlib.sha256(key.encode()).hexdigest()}\n"
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "a", encoding="utf-8") as file:
            file.write(line)
    except OSError as error:
        raise ServeError(f"the key file cannot be written: {error.strerror}", where=str(path)) from None
    return key


def _how(path: Path) -> str:
    return f"ptune serve-key {path} NAME"
