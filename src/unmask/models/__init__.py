"""Detectors: a vision tower, a feature, a head, and the folder that holds them."""

__all__: list[str] = []
