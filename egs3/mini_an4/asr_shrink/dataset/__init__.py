"""Mini AN4 as the installed ESPnet packs it, unpacked into this recipe."""

import os
import shutil
from importlib import resources
from pathlib import Path

from egs3.mini_an4.esp2_asr.dataset.builder import MiniAn4Builder
from egs3.mini_an4.esp2_asr.dataset.dataset import MiniAn4Dataset as Dataset

__all__ = ["Dataset", "DatasetBuilder"]


class DatasetBuilder(MiniAn4Builder):
    """ESPnet's builder, with the packed audio, and without a need for Kaldi's sph2pipe."""

    def prepare_source(self, recipe_dir, **kwargs):
        """Copy the audio out of the installed package, and unpack it."""
        packed = resources.files("egs3.mini_an4.esp2_asr").joinpath("downloads.tar.gz")
        shutil.copy(str(packed), Path(recipe_dir) / packed.name)
        super().prepare_source(recipe_dir, **kwargs)

    def build(self, recipe_dir, **kwargs):
        """Write wav files and manifests."""
        own = str(Path(__file__).resolve().parents[1] / "bin")
        os.environ["PATH"] += os.pathsep + own  # last: a real sph2pipe comes first
        super().build(recipe_dir, **kwargs)
