"""ONNX Runtime, pinned: every session of the project is opened here, with the same options.

One thread per session and no spinning: pools that spin collapse when a neighbour takes the core. The options
are fixed, as the kernels that they choose decide the last bits of a result, and equal bits for any batch size
are part of the promise. That holds for products whose right side is an initializer (packed once, it takes one
code path); a matrix handed in as input has a path of its own for a single row.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from stream.errors import BundleError

Floats = npt.NDArray[np.float32]

#: Severity of ONNX Runtime's own log: errors only, as its warnings speak of optimisations.
_LOG_ERRORS = 3


def open_session(model: Path | bytes, initializers: Mapping[str, Floats] | None = None) -> Any:
    """Return an inference session of a file or of a serialized model.

    initializers: arrays for those initializers of the graph that are stored outside of it, by name.
    Raises BundleError if ONNX Runtime refuses the model.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.enable_mem_pattern = False  # it keeps a plan for each batch size it ever saw
    options.log_severity_level = _LOG_ERRORS
    if initializers:
        values = [ort.OrtValue.ortvalue_from_numpy(array) for array in initializers.values()]
        options.add_external_initializers(list(initializers), values)
    source = model if isinstance(model, bytes) else str(model)
    place = "" if isinstance(model, bytes) else str(model)
    try:
        return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exception classes share no other base
        raise BundleError(
            f"ONNX Runtime {ort.__version__} refuses the model: {str(error).splitlines()[0]}",
            place=place,
            remedy="export the bundle again with this version of ebbtide",
        ) from error
