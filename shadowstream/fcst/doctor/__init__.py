"""Is this service ready for a stress test? Each check gives lines that say ok, or what to do.

=============  ======================================================================
``diagnosis``  `Diagnosis`: one line
``own``        the configuration: lanes, keys, sinks, hosts
``cluster``    brokers, topics, what compaction would do, rights
``members``    who reads in the groups, and whether they know marks
``shared``     Redis: is it there, what would it forget, and what time is it there
``examined``   all of them
=============  ======================================================================
"""

from shadowstream.fcst.doctor.diagnosis import Diagnosis, State
from shadowstream.fcst.doctor.examined import examined

__all__ = ["Diagnosis", "State", "examined"]
