"""The commands about marks.

=========  ==================================================
``token``  write one by hand, look at one, turn to another key
=========  ==================================================
"""
