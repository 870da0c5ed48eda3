"""Writes the mark for the next hop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shadowstream.errors import MarkError
from shadowstream.headers.form import MARK, MAX_HOP, signature_of, usable_name
from shadowstream.headers.keyring import Keyring
from shadowstream.lane import Mark

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from shadowstream.headers.form import Rules

__all__ = ["MarkWriter", "encode"]


class MarkWriter:
    """Writes the mark for the next hop; the first key signs.

    Raises:
        SetupError: the header name or a key cannot be used.
    """

    __slots__ = ("_keyring", "_max_age_s", "_max_hops", "name")

    def __init__(
        self,
        *,
        name: str = "x-shadow",
        keys: Sequence[tuple[str, bytes]] | Keyring = (),
        max_age_s: float = 21600.0,
        max_hops: int = MAX_HOP,
    ) -> None:
        self.name = usable_name(name)
        self._keyring = keys if isinstance(keys, Keyring) else Keyring(keys)
        self._max_age_s = max_age_s
        self._max_hops = min(max_hops, MAX_HOP)

    @classmethod
    def of(cls, rules: Rules) -> Self:
        """Return a writer that signs with the rules' first key, if there is one."""
        return cls(name=rules.header, keys=rules.keyring, max_age_s=rules.max_age_s, max_hops=rules.max_hops)

    def onward(self, mark: Mark, now: float) -> bytes:
        """Return the header value that passes ``mark`` on at wall-clock time ``now`` (unix seconds).

        Raises:
            MarkError: there are keys but no run to sign, the mark has gone as many hops as it may, or it fits no wire
                form.
        """
        if mark.run is None:
            return self._bare(mark)
        if mark.hop >= self._max_hops:
            raise MarkError(f"mark of run {mark.run!r}: passed on {mark.hop} times; look for a loop among the topics")
        exp = int(now + self._max_age_s) if mark.expires_at is None else mark.expires_at
        key_id, signature = mark.key_id, mark.signature
        if signature is None and (key := self._keyring.signing) is not None:
            key_id, secret = key
            signature = signature_of(secret, f"1;run={mark.run};exp={exp}".encode()).decode()
        return _wire(mark.run, exp, mark.hop + 1, key_id, signature)

    def _bare(self, mark: Mark) -> bytes:
        if self._keyring.signing is not None:
            raise MarkError("a bare mark has no run to sign; give it one, Mark(run=...), or configure no keys")
        return encode(mark)


def encode(mark: Mark) -> bytes:
    """Return the wire form of a mark, exactly as it is.

    Raises:
        MarkError: no wire form would read back as the same mark.
    """
    if mark.run is None:
        if mark != Mark():
            raise MarkError("a bare mark carries neither expiry, hop nor signature; give it a run, Mark(run=...)")
        return b"1"
    return _wire(mark.run, mark.expires_at, mark.hop, mark.key_id, mark.signature)


def _wire(run: str, exp: int | None, hop: int, key_id: str | None, signature: str | None) -> bytes:
    text = f"1;run={run}"
    if exp is not None:
        text += f";exp={exp}"
    if hop:
        text += f";hop={hop}"
    if signature is not None:
        text += f";kid={key_id};sig={signature}"
    value = text.encode("ascii", "replace")
    if MARK.fullmatch(value) is None:
        # The signature stays out of the message: whoever reads it in a log could replay it.
        raise MarkError(
            f"mark of run {run!r} (expires_at {exp!r}, hop {hop!r}, key_id {key_id!r}) cannot be written: use whole"
            " numbers, hop to 999 and expires_at to 12 digits; a signed mark needs an expiry, a key id of 1 to 32 of"
            " A-Z a-z 0-9 . _ - and a signature of 43 base64url characters"
        )
    return value
