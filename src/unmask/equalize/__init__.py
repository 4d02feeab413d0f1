"""Copies of a data set whose files are alike, so that only the faces tell the classes apart.

``run`` does all in order; ``inputs`` refuses what cannot be equalised, ``journal`` is what a run
writes down to go on from, and ``leftovers`` clears away copies whose inputs are gone.
"""
