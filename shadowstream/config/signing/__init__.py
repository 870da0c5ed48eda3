"""The signing keys: read from where they are kept, and read again when they change.

===========  ==============================================================
``secrets``  `Secrets`: the keys of ``mark.keys``, and what is wrong with them
``watch``    `KeyWatch`: turns a keyring when keys come, go or change
===========  ==============================================================
"""

from shadowstream.config.signing.secrets import Secrets
from shadowstream.config.signing.watch import KeyWatch

__all__ = ["KeyWatch", "Secrets"]
