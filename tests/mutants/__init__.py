"""Breaks what decides about lanes, in some thousand places, one at a time: the unit tests must see it."""
