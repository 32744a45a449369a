"""MaskLayer in a reduced codec: ``python -m pccodec.studies.codec``."""
