"""The laboratory: reproduction, studies, benchmarks, figures, films. The library needs none.

Drawing needs matplotlib (the ``viz`` extra), imported only to draw.
"""
