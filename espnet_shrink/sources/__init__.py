"""Any ESPnet model as an experiment folder: a folder, its files, a packed archive, or a tag.

source.py says what a model consists of, archive.py reads what was packed, contents.py checks it,
unpacked.py makes an experiment folder of it, resolve.py tells the four kinds apart.
"""

from espnet_shrink.sources.resolve import open_source
from espnet_shrink.sources.source import Source

__all__ = ["Source", "open_source"]
