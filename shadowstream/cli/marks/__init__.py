"""The commands for before a test: marks and keys, and whether everything is ready.

==========  ==================================================
``token``   write one by hand, look at one, turn to another key
``doctor``  is this service ready?
``trace``   which hops carry the mark
==========  ==================================================
"""
