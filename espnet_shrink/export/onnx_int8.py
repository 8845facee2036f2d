"""ONNX files in 8 bits: onnxruntime's dynamic quantisation, and the weights that it leaves out."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np

from espnet_shrink.core.files import write_atomically

# Multiplied in 8 bits, activations quantised on the fly. 8-bit Conv has no signed CPU kernel.
QUANTISED = ["MatMul", "Gather", "LSTM"]
# Stored in 8 bits, multiplied in float: an LSTM with factors, whose matrix is not in the file.
STORED = {"LSTM": (1, 2), "Conv": (1,)}
SMALL = 256  # numbers; below, scales cost more than the weights


def to_int8(source: Path, target: Path) -> None:
    """Write the ONNX file `source` in 8 bits to `target`.

    MatMul, Gather (embeddings) and LSTMs that are not factorised go through
    onnxruntime.quantization.quantize_dynamic; the remaining weights of LSTMs and convolutions are
    stored as int8 with a scale for each row.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with write_atomically(target) as beside:
        advice = logging.getLogger()
        level = advice.level
        advice.setLevel(logging.ERROR)  # it recommends steps that change nothing here
        try:
            quantize_dynamic(
                str(source), str(beside), op_types_to_quantize=QUANTISED,
                # 7 bits: processors without VNNI saturate sums of products of 8 by 8 bits.
                reduce_range=True,
                weight_type=QuantType.QInt8,
            )  # fmt: skip
        finally:
            advice.setLevel(level)
        model = onnx.load(str(beside))
        _store(model.graph)
        onnx.checker.check_model(model)
        onnx.save(model, str(beside))


def _store(graph: Any) -> None:
    """Turn float weights of STORED nodes into int8 initialisers behind a DequantizeLinear."""
    from onnx import helper, numpy_helper

    weights = {each.name: each for each in graph.initializer}
    places = [(node, i) for node in graph.node for i in STORED.get(node.op_type, ())]
    done: dict[str, Any] = {}
    for node, place in places:
        name = node.input[place]
        if name not in weights:
            continue
        values = numpy_helper.to_array(weights[name])
        if values.dtype != np.float32 or values.size < SMALL:
            continue
        if name not in done:
            # An LSTM's W is (1, 4H, in): its rows are on the second axis.
            axis = 1 if node.op_type == "LSTM" else 0
            rows, scale = _rows(values, axis)
            parts = {"int8": rows, "scale": scale, "zero": np.zeros(scale.shape, np.int8)}
            graph.initializer.remove(weights[name])
            graph.initializer.extend(
                numpy_helper.from_array(value, f"{name}_{part}") for part, value in parts.items()
            )
            done[name] = helper.make_node(
                "DequantizeLinear", [f"{name}_{part}" for part in parts], [f"{name}_float"],
                axis=axis,
            )  # fmt: skip
        node.input[place] = f"{name}_float"
    for number, node in enumerate(done.values()):
        graph.node.insert(number, node)


def _rows(values: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """int8 values and one float32 scale for each index of `axis`."""
    others = tuple(i for i in range(values.ndim) if i != axis)
    largest = np.abs(values).max(axis=others, keepdims=True)
    scale = np.where(largest > 0, largest / 127, 1).astype(np.float32)
    return np.rint(values / scale).astype(np.int8), scale.reshape(-1)
