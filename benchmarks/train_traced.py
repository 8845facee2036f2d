"""asr_train, with a line `seconds loss` for every update in the file that comes first.

python benchmarks/train_traced.py TRACE --config CONFIG
python -m espnet_shrink.run benchmarks/train_traced.py TRACE --config CONFIG
"""

from __future__ import annotations

import runpy
import sys
import time
from typing import Any


def main() -> None:
    """Trace the model's forward passes in training, and train."""
    from espnet2.asr.espnet_model import ESPnetASRModel

    trace = open(sys.argv.pop(1), "w", encoding="utf-8", buffering=1)
    forward = ESPnetASRModel.forward

    def traced(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = forward(self, *args, **kwargs)
        if self.training:
            print(time.perf_counter(), float(result[0].detach()), file=trace)
        return result

    ESPnetASRModel.forward = traced
    runpy.run_module("espnet2.bin.asr_train", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
