"""Other libraries' NMS, IoU and ROI-align as contenders, each with its own form of in- and output.

What can be done once is done in prepare: conversions to numpy, building and compiling a model.
All get as many threads as torch has. Each package is imported where it is asked for.
"""

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .case import Contender, Function


def same_kept(ours: Tensor, theirs: Tensor, boxes: Tensor, scores: Tensor, *_: Any) -> bool:
    """The same boxes kept, by descending score: equal scores may come in either order."""
    if ours.shape != theirs.shape:
        return False
    in_order = torch.equal(scores[ours], scores[theirs])
    return in_order and torch.equal(ours.sort().values, theirs.sort().values)


def same_set(ours: Tensor, theirs: Tensor, *_: Any) -> bool:
    """The same boxes kept, in any order."""
    return torch.equal(ours.sort().values, theirs.sort().values)


def compiled(function: Callable[..., Tensor]) -> Contender:
    """torch.compile of a function for these very shapes."""

    def prepare(*inputs: Tensor) -> Function:
        fast = torch.compile(function, dynamic=False)
        fast(*inputs)
        return partial(fast, *inputs)

    return Contender(prepare, slow_start=True)


def powerboxes_nms(threshold: float) -> Contender:
    """The one on an R-tree; single-threaded."""

    def prepare(boxes: Tensor, scores: Tensor) -> Function:
        import powerboxes

        given = (boxes.numpy(), scores.double().numpy(), threshold, -1.0)
        return lambda: powerboxes.rtree_nms(*given)

    return Contender(
        prepare, lambda kept: torch.from_numpy(kept.astype(np.int64)), same_kept, cpu_only=True
    )


def powerboxes_iou(name: str) -> Contender:
    """One of its distance matrices, which are 1 - IoU (or its kin) in float64."""

    def prepare(boxes1: Tensor, boxes2: Tensor) -> Function:
        # Rayon's pool is made at its first use
        os.environ.setdefault("RAYON_NUM_THREADS", str(torch.get_num_threads()))
        import powerboxes

        return partial(getattr(powerboxes, name), boxes1.numpy(), boxes2.numpy())

    return Contender(
        prepare, lambda distance: torch.from_numpy(1 - distance).float(), cpu_only=True
    )


def polygons_from_above(boxes: Tensor) -> Any:
    """shapely's polygons of boxes in space [n, 7], as seen from above."""
    import shapely

    x, y, _, dx, dy, _, yaw = (column[:, None] for column in boxes.double().numpy().T)
    along, across = dx / 2 * [-1, 1, 1, -1], dy / 2 * [-1, -1, 1, 1]
    cos, sin = np.cos(yaw), np.sin(yaw)
    corners = np.stack((x + along * cos - across * sin, y + along * sin + across * cos), -1)
    return shapely.polygons(corners)


def shapely_bev_iou() -> Contender:
    """A loop over the rows, each of which is one call for all of its polygons; one thread."""

    def prepare(boxes1: Tensor, boxes2: Tensor) -> Function:
        import shapely

        def run() -> Any:
            first, second = polygons_from_above(boxes1), polygons_from_above(boxes2)
            areas, other_areas = shapely.area(first), shapely.area(second)
            iou = np.empty((len(first), len(second)))
            for i, polygon in enumerate(first):
                inter = shapely.area(shapely.intersection(polygon, second))
                iou[i] = inter / (areas[i] + other_areas - inter)
            return iou

        return run

    return Contender(prepare, lambda iou: torch.from_numpy(iou).float(), cpu_only=True)


def shapely_nms_bev(threshold: float) -> Contender:
    """A greedy loop: each kept polygon is cut with all that are left, in one call; one thread."""

    def prepare(boxes: Tensor, scores: Tensor) -> Function:
        import shapely

        def run() -> Any:
            order = scores.argsort(descending=True, stable=True).numpy()
            polygons = polygons_from_above(boxes)[order]
            areas, alive = shapely.area(polygons), np.ones(len(order), dtype=bool)
            for i, polygon in enumerate(polygons):
                if alive[i]:
                    rest = i + 1 + np.flatnonzero(alive[i + 1 :])
                    inter = shapely.area(shapely.intersection(polygon, polygons[rest]))
                    alive[rest] = inter / (areas[i] + areas[rest] - inter) <= threshold
            return order[alive]

        return run

    return Contender(prepare, torch.from_numpy, cpu_only=True)


def ensemble_boxes_fusion() -> Contender:
    """In NumPy, one box at a time; boxes [M, n, 4] in 0 to 1, scores and labels [M, n]."""

    def prepare(boxes: Tensor, scores: Tensor, labels: Tensor) -> Function:
        from ensemble_boxes import weighted_boxes_fusion

        given = [list(tensor.numpy()) for tensor in (boxes, scores, labels)]
        return partial(weighted_boxes_fusion, *given)

    def read(fused: Any) -> tuple[Tensor, ...]:
        box, score, label = (torch.from_numpy(column.copy()) for column in fused)
        return box.float(), score.float(), label.long()

    return Contender(prepare, read, cpu_only=True)


def lsnms_nms(threshold: float) -> Contender:
    """On an R-tree too, in Rust; scores must be above 0."""

    def prepare(boxes: Tensor, scores: Tensor, ids: Tensor | None = None) -> Function:
        import lsnms

        given = (boxes.numpy(), scores.numpy(), threshold)
        of_class = None if ids is None else ids.numpy()
        return lambda: lsnms.nms(*given, class_ids=of_class)

    return Contender(
        prepare, lambda kept: torch.from_numpy(np.array(kept, np.int64)), same_kept, cpu_only=True
    )


def openvino_nms(threshold: float, classes: int = 1) -> Contender:
    """opset 9's NonMaxSuppression; with classes it is given the dense scores it asks for."""

    def prepare(boxes: Tensor, scores: Tensor, ids: Tensor | None = None) -> Function:
        import openvino as ov
        from openvino import opset9 as op

        n = len(boxes)
        box = op.parameter([1, n, 4], np.float32)
        score = op.parameter([1, classes, n], np.float32)
        selected = op.non_max_suppression(
            box,
            score,
            op.constant(np.int64(n)),
            op.constant(np.float32(threshold)),
            op.constant(np.float32(_BELOW_ALL / 2)),
            box_encoding="corner",
            sort_result_descending=False,
            output_type="i64",
        )
        model = ov.Model([selected.output(0), selected.output(2)], [box, score])
        return _openvino(model, [boxes[None].numpy(), _dense(scores, ids, classes)])

    def read(result: Any) -> Tensor:
        triples, count = result[0], int(result[1][0])  # padded: image, class, box
        return torch.from_numpy(triples[:count, 2].copy())

    return Contender(prepare, read, same_kept if classes == 1 else same_set, cpu_only=True)


def openvino_roi_align(output_size: int, spatial_scale: float, sampling_ratio: int) -> Contender:
    """opset 9's ROIAlign; "asymmetric" is torchvision's aligned=False."""

    def prepare(input: Tensor, rois: Tensor) -> Function:
        import openvino as ov
        from openvino import opset9 as op

        given = [
            input.numpy(),
            rois[:, 1:].contiguous().numpy(),
            rois[:, 0].to(torch.int32).numpy(),
        ]
        nodes = [op.parameter(list(x.shape), x.dtype) for x in given]
        pooled = op.roi_align(
            *nodes, output_size, output_size, sampling_ratio, spatial_scale, "avg", "asymmetric"
        )
        return _openvino(ov.Model([pooled.output(0)], nodes), given)

    return Contender(prepare, lambda result: torch.from_numpy(result[0].copy()), cpu_only=True)


def onnxruntime_nms(threshold: float, classes: int = 1) -> Contender:
    """NonMaxSuppression; with classes it is given the dense scores it asks for."""

    def prepare(boxes: Tensor, scores: Tensor, ids: Tensor | None = None) -> Function:
        limits = {
            "most": np.array([len(boxes)]),
            "iou": np.array([threshold], np.float32),
            "score": np.array([_BELOW_ALL / 2], np.float32),
        }
        given = {"boxes": boxes[None].numpy(), "scores": _dense(scores, ids, classes)}
        return _onnxruntime("NonMaxSuppression", given, limits, [None, 3])

    def read(result: list[Any]) -> Tensor:
        return torch.from_numpy(result[0][:, 2].copy())  # image, class, box

    return Contender(prepare, read, same_kept if classes == 1 else same_set, cpu_only=True)


def onnxruntime_roi_align(output_size: int, spatial_scale: float, sampling_ratio: int) -> Contender:
    """RoiAlign; "output_half_pixel" is torchvision's aligned=False."""

    def prepare(input: Tensor, rois: Tensor) -> Function:
        given = {
            "input": input.numpy(),
            "rois": rois[:, 1:].contiguous().numpy(),
            "image": rois[:, 0].long().numpy(),
        }
        shape = [len(rois), input.shape[1], output_size, output_size]
        return _onnxruntime(
            "RoiAlign",
            given,
            {},
            shape,
            coordinate_transformation_mode="output_half_pixel",
            output_height=output_size,
            output_width=output_size,
            sampling_ratio=sampling_ratio,
            spatial_scale=spatial_scale,
        )

    return Contender(prepare, lambda result: torch.from_numpy(result[0]), cpu_only=True)


_BELOW_ALL = -2.0  # a score that the score threshold leaves out: the box is of another class


def _dense(scores: Tensor, ids: Tensor | None, classes: int) -> np.ndarray:
    """[1, classes, n]: each box's score in its class's row."""
    if ids is None:
        return scores[None, None].numpy()
    dense = torch.full((1, classes, len(scores)), _BELOW_ALL)
    dense[0, ids, torch.arange(len(scores))] = scores
    return dense.numpy()


def _openvino(model: Any, given: list[np.ndarray]) -> Function:
    import openvino as ov

    options = {
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "INFERENCE_PRECISION_HINT": "f32",  # not bfloat16 where the processor has it
        "NUM_STREAMS": 1,
    }
    request = ov.Core().compile_model(model, "CPU", options).create_infer_request()
    return partial(request.infer, given, share_inputs=True, share_outputs=True)


def _onnxruntime(
    op: str,
    given: dict[str, np.ndarray],
    constants: dict[str, np.ndarray],
    shape: Sequence[int | None],
    **attributes: Any,
) -> Function:
    """Runs one node; `given` are its first inputs in order, `constants` the rest."""
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    kinds = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64}
    node = helper.make_node(op, [*given, *constants], ["out"], **attributes)
    kind = TensorProto.INT64 if op == "NonMaxSuppression" else TensorProto.FLOAT
    graph = helper.make_graph(
        [node],
        op,
        [helper.make_tensor_value_info(k, kinds[str(x.dtype)], x.shape) for k, x in given.items()],
        [helper.make_tensor_value_info("out", kind, shape)],
        [numpy_helper.from_array(x, k) for k, x in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 16)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # its waiting threads would take the processor from whoever is timed next
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return partial(session.run, None, given)
