"""Small COCO documents and results, for figures computed by hand."""


def truth(*annotations, classes=("x", "y")):
    """A COCO document of (image, category, xywh, {flags}) rows; categories are 5, 10, ..."""
    rows = []
    for k, (image, category, bbox, *flags) in enumerate(annotations, start=1):
        row = {"id": k, "image_id": image, "category_id": category, "bbox": bbox}
        row |= {"area": bbox[2] * bbox[3], "iscrowd": 0, "ignore": 0}
        rows.append(row | (flags[0] if flags else {}))
    return {
        "info": {},
        "images": [{"id": i, "width": 100, "height": 100} for i in (1, 2)],
        "annotations": rows,
        "categories": [{"id": 5 * k, "name": n} for k, n in enumerate(classes, start=1)],
    }


def found(*rows):
    keys = ("image_id", "category_id", "bbox", "score")
    return [dict(zip(keys, r, strict=True)) for r in rows]


A, B, FAR = [10, 10, 20, 20], [60, 60, 30, 20], [40, 5, 10, 10]
