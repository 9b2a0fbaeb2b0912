"""Predictions in other forms: COCO, YOLO and CSV files, and supervision's detections."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from detcore.data.oriented import corners_of
from detcore.inference import dota_files
from detcore.inference.input_sources import Source
from detcore.inference.output_writer import free_name, overwritten
from detcore.inference.predictor import Prediction, shortest
from detcore.ops import box_convert
from detcore.parts.box_forms import enclosing
from detcore.utils.arguments import one_of
from detcore.utils.atomic_write import write_csv, write_json, write_text
from detcore.utils.errors import UsageError
from detcore.utils.json_types import Json
from detcore.utils.optional_imports import require

FORMATS = ("json", "coco", "yolo", "csv", "dota")
IN_FOLDERS = ("yolo", "dota")
_OF_BOXES = ("coco", "yolo", "dota")
_OWN_TEXTS = _CLASSES, _INDEX = "classes.txt", "index.csv"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Save:
    """Where answers go, and in which of `FORMATS`; those of `IN_FOLDERS` go to a folder."""

    path: Path
    form: str


def saves_of(paths: Sequence[Path], forms: Sequence[str], task: str) -> list[Save]:
    """The saves that options ask for: each path with the form of its place.

    Without any form, a path that ends in .csv gets csv, any other one json.

    Raises:
        UsageError: not as many forms as paths, a form that there isn't, or one that can't hold
            the answers of `task`.
    """
    for form in forms:
        one_of("--format", form, FORMATS)
        if form in _OF_BOXES and task != "detection":
            raise UsageError(f"--format {form} is for detectors, the model is for {task}")
    if not paths and any(form != "json" for form in forms):
        raise UsageError(f"--format {forms[0]} needs --save, where to write it")
    if not forms:
        forms = ["csv" if path.suffix.lower() == ".csv" else "json" for path in paths]
    if paths and len(forms) != len(paths):
        raise UsageError(
            f"give one --format for each --save, in their order: got {len(paths)} --save, "
            f"{len(forms)} --format"
        )
    return [Save(path, form) for path, form in zip(paths, forms, strict=False)]


def check_texts(save: Save, sources: Sequence[Source], classes: Sequence[str]) -> None:
    """Raise UsageError if a folder holds texts that those of the save would replace.

    They may be labels that somebody drew by hand, beside the pictures or apart.
    """
    folder, own = save.path, list(_OWN_TEXTS)
    if save.form == "dota":
        sources, own = (), [dota_files.file_of(name) for name in classes]
    if there := overwritten(folder, sources, ".txt", own):
        raise UsageError(
            f"--save would overwrite {there[0]}; give a folder with no .txt files in it"
        )


def write_answers(
    save: Save,
    answers: Sequence[Json],
    classes: Sequence[str],
    *,
    category_ids: Mapping[str, int] | None = None,
) -> None:
    """Write answers, each file whole or not at all; folders are made.

    Args:
        save: the file, or of yolo and dota the folder, and the form, one of `FORMATS`:

            - json: a list of the answers as they are
            - coco: detections in COCO's results form (bbox xywh, pixels, or of oriented boxes
              cxcywhr with degrees counter-clockwise, detectron2's XYWHA_ABS), each also with its
              ``category_name`` and ``file_name``, by which `read_results` finds class and
              picture, and of a video with ``frame`` and ``track_id``
            - yolo: a text file per picture, a line per detection: class from 0, centre x, centre y,
              width, height, or of an oriented box x and y of its four corners (shares of the
              picture), confidence, and of a video the track, -1 without one; ``classes.txt``; and
              where pictures of several folders have one name, so that texts got a number,
              ``index.csv``: which picture's each is
            - dota: a text file per class, see `write_dota`
            - csv: a row per detection (corners, or centre, sides and angle, pixels and degrees) or
              a class named

        answers: `detcore.inference.predict_loop.annotate`'s. In coco those without an
            ``image_id`` are numbered from 1 on.
        classes: all class names, in order. category_ids: of coco, by name; a class that is not
            among them is left out; None: from 1 on in the order of `classes`.
    """
    path, form = save.path, save.form
    path.parent.mkdir(parents=True, exist_ok=True)
    if form == "json":
        write_json(path, answers)
    elif form == "coco":
        known = category_ids or {name: k for k, name in enumerate(classes, start=1)}
        rows = [_coco_rows(a, a.get("image_id", k), known) for k, a in enumerate(answers, start=1)]
        write_results(path, [row for one in rows for row in one])
    elif form == "yolo":
        _write_yolo(path, answers, classes)
    elif form == "dota":
        dota_files.write_dota(path, answers, classes)
    else:
        _write_csv(path, answers)


def to_supervision(prediction: Prediction, classes: Sequence[str]) -> Any:
    """A detector's prediction as ``supervision.Detections`` (github.com/roboflow/supervision).

    Args:
        prediction: ``boxes`` ``[n, 4]`` xyxy or ``[n, 5]`` cxcywhr in pixels, ``scores``,
            ``labels`` from 1, and perhaps ``tracks`` as `detcore.inference.tracker.Tracker` numbers
            them.
        classes: names without background.

    Returns:
        ``class_id`` counts from 0; ``data["class_name"]`` are the names; ``tracker_id`` are the
        tracks, where there are any. Of oriented boxes ``xyxy`` are the upright ones around them,
        and ``data["xyxyxyxy"]`` the corners ``[n, 4, 2]``, where supervision looks for them.

    Raises:
        MissingPackage: supervision is not installed. It is no requirement of detcore.
    """
    supervision: Any = require("supervision", extra=None)
    labels = prediction["labels"].cpu().numpy().astype(int) - 1
    tracks = prediction.get("tracks")
    boxes = prediction["boxes"].detach().cpu().float()
    data = {"class_name": np.array([classes[k] for k in labels], dtype=str)}
    if boxes.shape[1] == 5:
        corners = box_convert(boxes, "cxcywhr", "xyxyxyxy")
        data["xyxyxyxy"] = corners.reshape(-1, 4, 2).numpy()
    return supervision.Detections(
        xyxy=enclosing(boxes).numpy(),
        confidence=prediction["scores"].detach().cpu().float().numpy(),
        class_id=labels,
        tracker_id=None if tracks is None else tracks.cpu().numpy().astype(int),
        data=data,
    )


def _coco_rows(answer: Json, image_id: int, category_ids: Mapping[str, int]) -> list[Json]:
    rows = []
    for found in answer["detections"]:
        if found["class"] not in category_ids:
            continue
        row = {
            "image_id": image_id,
            "category_id": category_ids[found["class"]],
            "category_name": found["class"],
            "bbox": _coco_box(found["box"]),
            "score": found["score"],
            "file_name": answer["file"],
        }
        if "frame" in answer:
            row["frame"] = answer["frame"]
        if "track" in found:
            row["track_id"] = found["track"]
        rows.append(row)
    return rows


def _coco_box(box: Sequence[float]) -> Sequence[float]:
    if len(box) == 5:
        return box
    corners = np.array(box, np.float32)
    size = corners[2:] - corners[:2]  # in float32, as the model meant the corners
    return [shortest(number) for number in (*corners[:2], *size)]


def _write_yolo(folder: Path, answers: Sequence[Json], classes: Sequence[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    taken = set(_OWN_TEXTS)
    write_text(folder / _CLASSES, "".join(f"{name}\n" for name in classes))
    text_of: list[tuple[str, str]] = []
    numbered = False
    place = {name: k for k, name in enumerate(classes)}
    for answer in answers:
        width, height, lines = answer["width"], answer["height"], []
        for found in answer["detections"]:
            shares = _yolo_shares(found["box"], width, height)
            numbers = " ".join(f"{share:.6f}" for share in (*shares, found["score"]))
            track = f" {found.get('track', -1)}" if "frame" in answer else ""
            lines.append(f"{place[found['class']]} {numbers}{track}\n")
        alone = free_name(answer["file"], answer.get("frame"), ".txt", set())
        name = free_name(answer["file"], answer.get("frame"), ".txt", taken)
        write_text(folder / name, "".join(lines))
        text_of.append((name, answer["file"]))
        numbered |= name != alone
    if numbered:
        write_csv(folder / _INDEX, [("text", "file"), *text_of])
        log.warning("pictures share names; which text is whose is in %s", folder / _INDEX)


def _yolo_shares(box: Sequence[float], width: int, height: int) -> list[float]:
    """Centre and sides, or the corners of an oriented box, in shares of the picture's sides."""
    if len(box) == 5:
        corners = corners_of(np.array(box, np.float64)).reshape(4, 2)
        shares: list[float] = (corners / (width, height)).ravel().tolist()
        return shares
    x0, y0, x1, y1 = box
    return [
        (x0 + x1) / 2 / width,
        (y0 + y1) / 2 / height,
        (x1 - x0) / width,
        (y1 - y0) / height,
    ]


def _write_csv(path: Path, answers: Sequence[Json]) -> None:
    boxes = any("detections" in a for a in answers)
    moving = any("frame" in a for a in answers)
    oriented = any(len(found["box"]) == 5 for a in answers for found in a.get("detections", ()))
    columns = ["file", *(["frame"] if moving else []), "class", "score"]
    numbers = ("cx", "cy", "width", "height", "angle") if oriented else ("x0", "y0", "x1", "y1")
    if boxes:
        columns += [*numbers, *(["track"] if moving else [])]
    rows = []
    for answer in answers:
        for found in answer.get("detections") or answer.get("classes") or ():
            box = zip(numbers, found.get("box", ()), strict=False)
            where = {"file": answer["file"], "frame": answer.get("frame", "")}
            row = {**where, **found, **dict(box)}
            rows.append([row.get(column, "") for column in columns])
    write_csv(path, [columns, *rows])


def write_results(path: Path, results: list[Json]) -> None:
    """Write COCO results, a line per detection, whole or not at all; folders are made.

    Numbers are written in full, so that reading them back gives the same figures.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = ",\n".join(json.dumps(r, allow_nan=False) for r in results)
    write_text(path, f"[\n{rows}\n]\n" if rows else "[]\n")
