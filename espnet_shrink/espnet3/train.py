"""Train by a finished ESPnet3 training config: python -m espnet_shrink.espnet3.train CONFIG.

A second argument is a YAML file of what rides along (training/extras). A process of its own, as
Lightning starts its command again for every further GPU. It does not go through run.py, which
would mix ESPnet3's default scheduler into the config's.
"""

from __future__ import annotations

import sys

from omegaconf import OmegaConf

from espnet_shrink.compat.espnet3 import configure_logging, train
from espnet_shrink.espnet3.task import ShrunkASRTask
from espnet_shrink.training.extras import read_extras

if __name__ == "__main__":
    configure_logging()
    if len(sys.argv) > 2:
        ShrunkASRTask.extras = tuple(read_extras(sys.argv[2]))
    train(OmegaConf.load(sys.argv[1]))
