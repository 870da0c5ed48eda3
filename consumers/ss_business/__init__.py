"""Orders: what was used is settled or cancelled, and the chain ends."""
