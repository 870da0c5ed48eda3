"""Header lists and tokens without end, against a second reader that was written from the design and shares nothing."""
