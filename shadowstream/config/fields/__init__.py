"""Every key there is, and how its value is read.

===========  ==========================================================
``readers``  how values are read, shown in messages, and masked
``tables``   every section, and every field in it
===========  ==========================================================
"""

from __future__ import annotations

from shadowstream.config.fields.readers import VARIABLE, WrongValueError, duration, masked, meant, rate, said
from shadowstream.config.fields.tables import SECTIONS, Field, Section

__all__ = [
    "SECTIONS",
    "VARIABLE",
    "Field",
    "Section",
    "WrongValueError",
    "duration",
    "masked",
    "meant",
    "rate",
    "said",
]
