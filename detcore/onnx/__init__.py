"""Export of detcore's ops to ONNX, in standard operators, for both of torch's exporters.

With the current exporter, pass the table of translations::

    torch.onnx.export(model, args, "model.onnx", custom_translation_table=translations())

With the older one (``dynamo=False``), importing `detcore.onnx` is enough.

It needs the package onnxscript.
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
        A translation into operators of the ONNX standard (opset 18) for the operators behind nms,
        batched_nms, multiclass_nms, the four IoUs, paired_box_iou and the box losses, encode_boxes,
        decode_boxes, roi_align and multiscale_roi_align.

    Raises:
        MissingPackage: onnxscript is not installed.

    Edge cases:
        ONNX's NMS computes IoUs in float32, puts exchanged corners in order and does not remove
        boxes with NaN. An exported batched_nms holds a score for each box and class. The ONNX
        Runtime refuses regions of ROI-align that are not finite. The arctangent of CIoU is computed
        in float32.

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
