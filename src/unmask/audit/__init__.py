"""Is a labelled data set honest? What tells the classes apart without looking at any face.

``run`` does all in order; ``metadata``, ``jpeg`` and ``fingerprint`` describe one file,
``columns``, ``thumbnails``, ``auc`` and ``separability`` try to tell the classes apart, ``leaks``
and ``embedding`` find copies, ``verdict`` says what it means and ``document`` writes it down.
"""
