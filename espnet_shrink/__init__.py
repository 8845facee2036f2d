"""espnet_shrink: low-rank compression of trained ESPnet models.

Importing the package teaches ESPnet to build and load compressed models; it costs nothing until
ESPnet itself is imported.
"""

from espnet_shrink.compat.hooks import register

__all__ = ["register"]

register()
