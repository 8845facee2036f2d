"""Decode with exported ONNX files, greedily. Needs onnxruntime and no torch."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from espnet_shrink.core.files import read_yaml
from espnet_shrink.errors import ShrinkError


def open_session(path: Path, optimised: Path | None = None) -> Any:
    """An onnxruntime session on one thread, as ESPnet decodes.

    Args:
        path: an ONNX file.
        optimised: write there what onnxruntime made of it.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    # 8-bit LSTM factors become the LSTM's matrix when the file is loaded, not at every call.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    if optimised is not None:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(optimised)
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def weights_in_memory_mib(path: Path) -> float:
    """MiB of the weights that onnxruntime holds once a file is loaded: LSTMs are whole then."""
    import onnx

    with tempfile.TemporaryDirectory() as folder:
        optimised = Path(folder) / "optimised.onnx"
        open_session(path, optimised)
        weights = onnx.load(str(optimised)).graph.initializer
        return sum(onnx.numpy_helper.to_array(weight).nbytes for weight in weights) / 2**20


class OnnxRecogniser:
    """A recogniser made of the files that `export_onnx` wrote.

    Args:
        folder: holds meta.yaml and the files.
        int8: take NAME.int8.onnx.
    Raises:
        ShrinkError: a file is missing.
    """

    def __init__(self, folder: Path, int8: bool = False) -> None:
        self.meta = read_yaml(folder / "meta.yaml")
        self.files = {}
        for name, graph in self.meta["graphs"].items():
            path = folder / graph["file"]
            if int8:
                path = path.with_suffix(".int8.onnx")
            if not path.exists():
                raise ShrinkError(f"no such file: {path}: export the model again")
            self.files[name] = path
        self.sessions = {name: open_session(path) for name, path in self.files.items()}

    def _run(self, name: str, **inputs: Any) -> list[np.ndarray]:
        if name not in self.sessions:
            raise ShrinkError(f"the exported model has no {name}: decode in another way")
        found: list[np.ndarray] = self.sessions[name].run(None, inputs)
        return found

    def too_short(self, features: np.ndarray) -> bool:
        """Whether (T, F) are fewer frames than the encoder takes."""
        return len(features) < int(self.meta["shortest_frames"])

    def encode(self, features: np.ndarray) -> np.ndarray:
        """Normalised features (T, F) to encoder output (1, T', D)."""
        return self._run("encoder", features=features[None])[0]

    def ctc_greedy(self, features: np.ndarray) -> list[int]:
        """Token ids of the best symbol of each frame, repeats merged, blanks dropped.

        Nothing, as in ESPnet's inference, if the encoder cannot take so few frames.
        """
        if self.too_short(features):
            return []
        best = self._run("ctc", encoded=self.encode(features))[0][0].argmax(-1)
        merged = best[np.flatnonzero(np.diff(best, prepend=-1))]
        return [int(token) for token in merged if token != self.meta["blank"]]

    def attention_greedy(self, features: np.ndarray) -> list[int]:
        """Token ids of the best token at each step, until the end symbol or T' tokens."""
        if self.too_short(features):
            return []
        encoded = self.encode(features)
        recurrent = "token" in self.meta["graphs"].get("decoder_step", {}).get("inputs", {})
        step = self._recurrent(encoded) if recurrent else self._prefix(encoded)
        tokens = [self.meta["sos"]]
        while len(tokens) <= encoded.shape[1]:
            token = int(step(tokens).argmax())
            if token == self.meta["eos"]:
                break
            tokens.append(token)
        # As ESPnet's inference does: id 0, the blank, is no text.
        return [token for token in tokens[1:] if token != 0]

    def _prefix(self, encoded: np.ndarray) -> Any:
        def step(tokens: list[int]) -> np.ndarray:
            prefix = np.array([tokens], dtype=np.int64)
            return self._run("decoder_step", tokens=prefix, encoded=encoded)[0]

        return step

    def _recurrent(self, encoded: np.ndarray) -> Any:
        frames = encoded.shape[1]
        shape = self.meta["graphs"]["decoder_step"]["inputs"]["h"]
        state = {
            "h": np.zeros(shape, np.float32), "c": np.zeros(shape, np.float32),
            "attention": np.full((1, frames), 1 / frames, np.float32),
        }  # fmt: skip

        def step(tokens: list[int]) -> np.ndarray:
            last = np.array(tokens[-1:], dtype=np.int64)
            found, *new = self._run("decoder_step", token=last, encoded=encoded, **state)
            state.update(zip(state, new, strict=True))
            return found

        return step
