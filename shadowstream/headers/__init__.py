"""The mark on the wire: read it, write it for the next hop, sign and verify it.

One ASCII value, its fields in this order and no other, everything after ``run`` optional::

    1;run=fcst-1111;exp=1795480000;hop=3;kid=k1;sig=<base64url HMAC-SHA256 of "1;run=fcst-1111;exp=1795480000">

``1`` and ``true`` are the bare forms. What cannot be trusted is never guessed: it reads as quarantine, with a reason.
Why it is so: ``docs/decisions/0002-mark-reading.md``. Traps:

* Trust ``open`` without keys checks no signature at all (``test_open_trust_without_keys_checks_no_signature``).
* The signature is checked before the expiry (``test_a_forged_stale_mark_is_quarantined_and_not_merely_expired``).
* A cached mark still expires: the cache holds the parse, never the verdict (``test_a_cached_mark_still_expires``).
* A message of more than 128 headers is quarantined unread, marked or not, for a second mark may hide behind the cap
  (``test_more_than_128_headers_are_quarantined_whatever_they_are``).

===========  =================================================================
``form``     the grammar, the signature, and what rules a mark is read by
``keyring``  `Keyring`: the signing keys in use
``reader``   `MarkReader`: what a message is; raises nothing, whatever comes
``writer``   `MarkWriter`: the mark for the next hop
===========  =================================================================
"""

from shadowstream.headers.form import HEADER_NAME, KEY_ID, MAX_HOP
from shadowstream.headers.keyring import Keyring
from shadowstream.headers.reader import MAX_KNOWN, NEAR_MISS, NORMAL, UNREADABLE, Kind, MarkReader, Reading
from shadowstream.headers.writer import MarkWriter, encode

__all__ = [
    "HEADER_NAME",
    "KEY_ID",
    "MAX_HOP",
    "MAX_KNOWN",
    "NEAR_MISS",
    "NORMAL",
    "UNREADABLE",
    "Keyring",
    "Kind",
    "MarkReader",
    "MarkWriter",
    "Reading",
    "encode",
]
