"""Entropy coding: the range coder and the coder of the geometry layers. No torch here."""
