"""Asynchronous tasks: what was dispatched is used."""
