"""Compression for ESPnet3 recipes: a system whose stages run with `python run.py --stages ...`.

system.py has the stages, settings.py reads their part of the training config, dataset.py writes
ESPnet3's dev set as a Kaldi-style folder, task.py and retrain.py train compressed models with
ESPnet3's own trainer. ESPnet3's experiment folders are read as they are.
"""

try:
    from espnet_shrink.espnet3.system import ShrinkSystem
except ImportError as error:
    raise ImportError(
        f"espnet_shrink.espnet3 needs ESPnet 202611 or later with what it trains with ({error}): "
        'pip install "espnet[train]"'
    ) from error

__all__ = ["ShrinkSystem"]
