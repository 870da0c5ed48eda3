"""Changes of a configuration while it is in use.

==========  ===============================================================
``watch``   looks at the file, and hands over what is right (`Watcher`)
``change``  what a lane did with a change, and what must wait for a restart
==========  ===============================================================
"""

from __future__ import annotations

from shadowstream.config.live.change import Change
from shadowstream.config.live.watch import Watcher

__all__ = ["Change", "Watcher"]
