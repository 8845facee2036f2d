"""espnet_shrink: compression of trained ESPnet models.

Importing the package teaches ESPnet to build and load compressed models; it costs nothing until
ESPnet itself is imported.
"""

from typing import Any

from espnet_shrink.compat.hooks import register


def _create_adapter(model: Any, **conf: Any) -> None:
    from espnet_shrink.methods.adapter import build_from_conf  # torch: only when a model is built

    build_from_conf(model, conf)


register(_create_adapter)
