"""Detectors as others publish them, read into ours; one module per format."""
