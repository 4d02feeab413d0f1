"""What is done to training pictures; none of it knows of data sets, steps or settings.

``augment`` alters as ``augmentation`` says, ``equalise`` gives all sources one detail, both by the
``pixel_changes``; ``selfblend`` and ``composite`` make pseudo-fakes of reals, under ``masks``.
"""
