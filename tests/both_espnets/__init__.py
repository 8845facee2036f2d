"""Models compressed and packed under one ESPnet, with what that ESPnet decodes.

`python tests/both_espnets/make.py`, run with each ESPnet in turn, made the files.
"""
