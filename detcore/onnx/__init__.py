"""Export of detcore's ops to ONNX, in standard operators, for both of torch's exporters.

With the current exporter, pass the table of translations::

    torch.onnx.export(model, args, "model.onnx", custom_translation_table=translations())

With the older one (``dynamo=False``), importing `detcore.onnx` is enough.

Translated are nms, batched_nms, multiclass_nms, the IoUs and their losses, encode_boxes,
decode_boxes, roi_align and multiscale_roi_align. Needs the package onnxscript.
"""

from collections.abc import Callable
from typing import Any

import torch

from detcore import ops  # noqa: F401  registers the operators
from detcore.onnx import _graph
from detcore.onnx._operators import OPERATORS
from detcore.utils.optional_imports import require

__all__ = ["translations"]


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """How torch.onnx.export translates detcore's operators: its ``custom_translation_table``.

    Returns:
        A translation for each operator ``torch.ops.detcore.<name>`` listed above, into operators of
        the ONNX standard (opset 18).

    Raises:
        MissingPackage: onnxscript is not installed.

    Edge cases:
        Exported NMS computes in float32, as ONNX does. Boxes whose corners are exchanged are put in
        order there, and boxes with NaN are not removed.

    Example:
        >>> from detcore.onnx import translations
        >>> table = translations()
        >>> torch.ops.detcore.nms.default in table
        True
    """
    require("onnxscript", extra="onnx")
    return {
        getattr(torch.ops.detcore, name).default: _graph.for_exporter(function)
        for name, function in OPERATORS.items()
    }


for _name, _function in OPERATORS.items():
    _graph.register_symbolic(_name, _function)
