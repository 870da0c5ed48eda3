"""Reads the keys of ``mark.keys``, each from an environment variable or a file; no secret is in any message."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from shadowstream.config.fields import VARIABLE, said
from shadowstream.config.model import SigningKey, Trust
from shadowstream.errors import Problem
from shadowstream.headers import KEY_ID
from shadowstream.lane import Lane

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from shadowstream.config.document import Findings, Node
    from shadowstream.config.lookup import Given, Layers

__all__ = ["Secrets"]

FIELDS: Final = frozenset({"id", "secret_env", "secret_file"})
EXAMPLE: Final = "{id: k1, secret_env: SHADOW_KEY_1} or {id: k1, secret_file: /run/secrets/k1}"
MOST_BYTES: Final = 64 * 1024


class Secrets:
    """The keys of one configuration; what is wrong with them is added to the findings.

    Files are named from ``folder``, where the configuration is.
    """

    def __init__(self, findings: Findings, environ: Mapping[str, str], folder: Path) -> None:
        self._findings, self._environ, self._folder = findings, environ, folder

    def read(self, layers: Layers) -> tuple[SigningKey, ...]:
        """Return the keys whose secrets are there, in the order in which they are written."""
        given = layers.find("mark", "", "keys", (Lane.NORMAL,))
        trust = layers.find("mark", "", "trust", (Lane.NORMAL,))
        if given is None or not given.value:
            if trust is not None and trust.value is Trust.SIGNED:
                cure = f"Add `keys: [{EXAMPLE.partition(' or ')[0]}]` under `mark:`, or write `trust: open`."
                self._wrong(trust, "is signed, but there are no keys to sign with", cure)
            return ()
        if not isinstance(given.node.content, tuple):
            self._wrong(given, "is not a list of keys", f"Write `keys: [{EXAMPLE.partition(' or ')[0]}]`.")
            return ()
        return self._keys(given, given.node.content)

    def _keys(self, given: Given, items: tuple[Node, ...]) -> tuple[SigningKey, ...]:
        keys: dict[str, SigningKey] = {}
        for index, item in enumerate(items):
            where = " ".join((*given.spelled, str(index + 1)))
            key = self._key(item, where)
            if key is not None and key.id in keys:
                self._add(Lane.NORMAL, item, f"{where} id", f"{key.id!r} is used twice", "Give each key its own id.")
            elif key is not None:
                keys[key.id] = key
        return tuple(key for key in keys.values() if key.secret)

    def _key(self, item: Node, where: str) -> SigningKey | None:
        """Return one key, its secret empty when it is not there; None when nothing says where it is."""
        entry, cure = item.plain(), f"Write {EXAMPLE}; the secret itself is never in this file."
        if not isinstance(entry, dict):
            self._add(Lane.NORMAL, item, where, "is not a mapping", cure)
            return None
        for field in sorted(entry.keys() - FIELDS):
            self._add(Lane.NORMAL, item, f"{where} {field}", "is not a field", cure)
        key_id = entry.get("id")
        if not isinstance(key_id, str) or not KEY_ID.fullmatch(key_id):
            wrong = "is missing" if key_id is None else f"is {said(key_id, 'id')}, not 1 to 32 letters, digits and ._-"
            self._add(Lane.NORMAL, item, f"{where} id", wrong, cure)
            key_id = ""
        kept = self._kept(item, where, entry, cure)
        return SigningKey(key_id, *kept) if key_id and kept is not None else None

    def _kept(self, item: Node, where: str, entry: Mapping[str, object], cure: str) -> tuple[bytes, Path | None] | None:
        """Return a secret, empty when it is not there, and its file; None when nothing says where it is."""
        variable, file = entry.get("secret_env"), entry.get("secret_file")
        if variable is not None and file is not None:
            self._add(Lane.NORMAL, item, f"{where} secret_file", "is beside secret_env", "Keep one of the two.")
        elif isinstance(file, str) and file:
            path = self._folder / file
            return self._of_file(item, where, path), path
        elif isinstance(variable, str) and variable:
            return self._of_variable(item, where, variable), None
        elif file is None:
            self._add(Lane.NORMAL, item, f"{where} secret_env", "does not name an environment variable", cure)
        else:
            self._add(Lane.NORMAL, item, f"{where} secret_file", "does not name a file", cure)
        return None

    def _of_variable(self, item: Node, where: str, variable: str) -> bytes:
        secret = self._environ.get(variable, "").encode(errors="surrogateescape")
        if not secret:
            # A name that does not look like a variable's may be the secret itself, pasted into the wrong place.
            named = VARIABLE.fullmatch(variable)
            wrong = f"{variable} is not set, or is empty" if named else "what it names is not set"
            cure = "Set that environment variable to the key's secret, the same in every service."
            self._add(Lane.SHADOW, item, f"{where} secret_env", wrong, cure)
        return secret

    def _of_file(self, item: Node, where: str, path: Path) -> bytes:
        cure = "Put the key's secret into that file, the same in every service, for this user to read."
        try:
            with path.open("rb") as file:
                secret = file.read(MOST_BYTES + 1).rstrip(b"\r\n")
        except OSError as error:
            self._add(Lane.SHADOW, item, f"{where} secret_file", f"cannot be read ({error.strerror})", cure)
            return b""
        if not secret or len(secret) > MOST_BYTES:
            wrong = f"is longer than {MOST_BYTES} bytes" if secret else "is empty"
            self._add(Lane.SHADOW, item, f"{where} secret_file", wrong, cure)
            return b""
        return secret

    def _wrong(self, given: Given, message: str, cure: str) -> None:
        self._findings.add(Lane.NORMAL, Problem(given.node.place, " ".join(given.spelled), message, cure))

    def _add(self, blame: Lane, item: Node, key: str, message: str, cure: str) -> None:
        self._findings.add(blame, Problem(item.place, key, message, cure))
