"""Which blocks, pooling, head and penalty of a frozen tower tell the classes apart.

``run`` does all in order; ``features`` names what is computed, ``fit`` learns the heads, ``judge``
measures them, ``result`` is what was found, ``table`` and ``write`` put it down.
"""
