"""How good a detector is, how sure that is, and what breaks it."""
