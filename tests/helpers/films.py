"""Videos as lists of frames, a fake OpenCV that plays them, and a model for them."""

from types import ModuleType

import numpy as np
import torch
from torch import nn

from detcore.checkpoints.checkpoint import CheckpointInfo

INFO = CheckpointInfo({}, ["red", "blue"])


def scene(red=None, blue=None, size=(64, 48)):
    """[H, W, 3] RGB of squares of 12 pixels at (x, y) on black."""
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    for place, channel in ((red, 0), (blue, 2)):
        if place is not None:
            x, y = place
            pixels[y : y + 12, x : x + 12, channel] = 255
    return pixels


class Finder(nn.Module):
    """Finds one red (label 1) and one blue object (label 2); `scores` by label."""

    def __init__(self, scores=(0.9, 0.8)):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.scores, self.calls = scores, []

    def forward(self, images):
        self.calls.append(len(images))
        return [self._see(image) for image in images]

    def _see(self, image):
        boxes, labels = [], []
        for label, channel in ((1, 0), (2, 2)):
            rows, columns = torch.where(image[channel] > 0.5)
            if len(rows):
                boxes.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
                labels.append(label)
        return {
            "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
            "labels": torch.tensor(labels, dtype=torch.int64),
            "scores": torch.tensor([self.scores[k - 1] for k in labels]),
        }


def fake_opencv(films, rate=10.0):
    """A module like cv2: `films` are lists of RGB frames by name or number of a camera."""
    cv2 = ModuleType("cv2")
    cv2.CAP_PROP_FPS = 5
    cv2.written, cv2.released = {}, []

    class VideoCapture:
        def __init__(self, address):
            self.address, self.left = address, iter(films.get(address, ()))

        def isOpened(self):
            return self.address in films

        def get(self, what):
            assert what == cv2.CAP_PROP_FPS
            return rate

        def read(self):
            pixels = next(self.left, None)
            if isinstance(pixels, BaseException):
                raise pixels
            return (False, None) if pixels is None else (True, pixels[..., ::-1])

        def release(self):
            cv2.released.append(self.address)

    class VideoWriter:
        def __init__(self, path, codec, rate, size):
            self.path, self.size = path, size
            cv2.written[path] = {"codec": codec, "rate": rate, "frames": []}

        def isOpened(self):
            return "refused" not in self.path

        def write(self, pixels):
            assert pixels.shape == (self.size[1], self.size[0], 3)
            cv2.written[self.path]["frames"].append(pixels[..., ::-1])

        def release(self):
            cv2.released.append(self.path)

    cv2.VideoCapture, cv2.VideoWriter = VideoCapture, VideoWriter
    cv2.VideoWriter_fourcc = lambda *letters: "".join(letters)
    return cv2
