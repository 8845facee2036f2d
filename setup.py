"""Packaging of espnet_shrink. No requirement has an upper pin: none may replace a user's torch."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).resolve().parent
VERSION = re.search(
    r'__version__ = "(.+)"', (HERE / "espnet_shrink" / "version.py").read_text(encoding="utf-8")
).group(1)

setup(
    name="espnet_shrink",
    version=VERSION,
    description="Makes trained ESPnet speech recognisers smaller and faster, not worse",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["espnet_shrink", "espnet_shrink.*"]),
    package_data={"espnet_shrink": ["**/*.yaml", "**/*.j2", "**/*.html"]},
    install_requires=[
        "espnet>=202511",
        "torch",
        "torchaudio",  # ESPnet 202511 imports it without requiring it
        "editdistance",  # ESPnet 202611 imports it in training without requiring it
        "numpy",
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
        "wrapt",
    ],
    extras_require={
        "demo": ["espeakng-loader"],  # synthesises the embedded corpus
        "dev": ["filelock", "mypy", "pytest", "pytest-xdist", "ruff", "types-PyYAML"],
    },
    entry_points={"console_scripts": ["espnet-shrink = espnet_shrink.cli:main"]},
)
