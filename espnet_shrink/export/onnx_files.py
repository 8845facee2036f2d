"""encoder.onnx, ctc.onnx and decoder_step.onnx of a recogniser, with meta.yaml beside them.

Factors stay factors: a linear layer is two MatMuls. ONNX's LSTM wants its recurrent matrix whole,
so the file holds U, V and their MatMul, which onnxruntime carries out once, when it loads.
"""

from __future__ import annotations

import importlib.metadata
import platform
import warnings
from pathlib import Path
from typing import Any

import torch
import yaml

from espnet_shrink.compat.graphs import Graph, graphs_of
from espnet_shrink.compat.models import LoadedModel, espnet_version
from espnet_shrink.core.files import sha256, write_atomically, write_text
from espnet_shrink.data.features import sampling_rate_hz
from espnet_shrink.errors import ShrinkError, working_on
from espnet_shrink.export.folder import export_folder
from espnet_shrink.version import __version__

OPSET = 17
EXAMPLE_FRAMES, CHECKED_FRAMES = 37, (48, 201)
TOLERANCE = 1e-4


def require_onnx() -> None:
    """Raise ShrinkError unless onnx and onnxruntime are installed."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise ShrinkError(
            f"{error.name} is not installed: pip install 'espnet_shrink[onnx]'"
        ) from error


def export_onnx(loaded: LoadedModel, out: Path, int8: bool) -> list[Path]:
    """Write the ONNX files of a recogniser to `out`, with `int8` also NAME.int8.onnx.

    What is there already is kept. Every file is run once and held against torch.

    Returns:
        The files.
    Raises:
        ShrinkError: packages missing, a model that cannot be traced, `out` holds something else,
            or onnxruntime computes something else than torch.
    """
    require_onnx()
    graphs = graphs_of(loaded)
    written = []
    with export_folder(out, loaded, "onnx"):
        for graph in graphs:
            path = out / f"{graph.name}.onnx"
            if not path.exists():
                what = f"{loaded.config}: writing {path}"
                with working_on(what), write_atomically(path) as beside:
                    _trace(graph, beside)
                    _check(graph, beside)
            written.append(path)
        if int8:
            from espnet_shrink.export.onnx_int8 import to_int8

            for path in list(written):
                smaller = path.with_suffix(".int8.onnx")
                if not smaller.exists():
                    with working_on(f"quantising {path}"):
                        to_int8(path, smaller)
                written.append(smaller)
        # Last: it marks an export as whole.
        if not (out / "meta.yaml").exists():
            meta = yaml.safe_dump(_meta(loaded, graphs), sort_keys=False, allow_unicode=True)
            write_text(out / "meta.yaml", meta)
    return written


def _trace(graph: Graph, path: Path) -> None:
    import onnx

    names = {**graph.inputs, **graph.outputs}
    axes = {
        name: {axis: size for axis, size in enumerate(dims) if isinstance(size, str)}
        for name, dims in names.items()
    }
    # The tracing exporter: it takes the library's LSTM, and needs no further package.
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # it warns of every Python number, and of its own age
        torch.onnx.export(
            graph.module, graph.example(EXAMPLE_FRAMES), str(path), dynamo=False,
            opset_version=OPSET, dynamic_axes=axes,
            input_names=list(graph.inputs), output_names=list(graph.outputs),
        )  # fmt: skip
    model = onnx.load(str(path))
    for value in (*model.graph.input, *model.graph.output):
        # The exporter's own guesses at a batch of 1 may be unnamed variables.
        for axis, size in zip(value.type.tensor_type.shape.dim, names[value.name], strict=True):
            if isinstance(size, int):
                axis.dim_value = size
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def _check(graph: Graph, path: Path) -> None:
    from espnet_shrink.export.onnx_run import open_session

    session = open_session(path)
    for frames in CHECKED_FRAMES:
        inputs = graph.example(frames)
        with torch.no_grad():
            expected = graph.module(*inputs)
        arrays = {name: x.numpy() for name, x in zip(graph.inputs, inputs, strict=True)}
        found = session.run(None, arrays)
        if isinstance(expected, torch.Tensor):
            expected = (expected,)
        for name, ours, theirs in zip(graph.outputs, found, expected, strict=True):
            if not torch.allclose(torch.from_numpy(ours), theirs, TOLERANCE, TOLERANCE):
                raise ShrinkError(
                    f"{graph.name}: onnxruntime and torch differ in {name} by more than "
                    f"{TOLERANCE:g}: this model cannot be exported with the installed versions"
                )


def _meta(loaded: LoadedModel, graphs: list[Graph]) -> dict[str, Any]:
    model, args = loaded.model, loaded.args
    return {
        "task": loaded.task.name,
        "checkpoint": loaded.checkpoint.name,
        "sha256": sha256(loaded.checkpoint),
        "sampling_rate_hz": sampling_rate_hz(loaded),
        "features": "output of the model's frontend and normalisation, float32",
        "shortest_frames": max(graph.shortest_frames for graph in graphs),
        "graphs": {
            graph.name: {
                "file": f"{graph.name}.onnx",
                "inputs": {name: list(dims) for name, dims in graph.inputs.items()},
                "outputs": {name: list(dims) for name, dims in graph.outputs.items()},
            }
            for graph in graphs
        },
        "blank": model.blank_id,
        "sos": model.sos,
        "eos": model.eos,
        "versions": {
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "espnet": espnet_version(),
            "espnet_shrink": __version__,
            "onnx": importlib.metadata.version("onnx"),
            "onnxruntime": importlib.metadata.version("onnxruntime"),
            "opset": OPSET,
        },
        "token_list": list(args.token_list),
    }
