"""The coverage map: one marked probe is sent through the chain, and who passed its mark on is drawn.

==========  =======================================================================
``chain``   `Chain`: the topics in the order in which a message goes through them
``probe``   `Watch`: sends the probe, and writes down where it was seen, and how
``map``     `CoverageMap`: what became of it at each hop, and whose hop is deaf
``draw``    the same as text, JSON and SVG
``deaf``    a chain with one deaf hop, on a broker inside this process
==========  =======================================================================

A hop is the way from one topic to the next, whatever it goes through: a service that reads one and, over HTTP or RPC,
makes another write the next is one hop. Nothing is asked of the services; their topics are read by a plain client.
"""

from shadowstream.fcst.trace.chain import Chain
from shadowstream.fcst.trace.draw import as_json, as_svg, as_text
from shadowstream.fcst.trace.map import CoverageMap, Fate
from shadowstream.fcst.trace.probe import Probe, Watch

__all__ = ["Chain", "CoverageMap", "Fate", "Probe", "Watch", "as_json", "as_svg", "as_text"]
