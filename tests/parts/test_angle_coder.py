import math

import pytest
import torch

from detcore.ops import box_iou
from detcore.parts.angle_coder import CODE_OF_ZERO, AngleCoder, angle_loss


def turn(one, other):
    """Degrees between two angles of a line, 0..90."""
    apart = (one - other) % 180
    return torch.minimum(apart, 180 - apart)


def boxes(width, height, angles):
    angles = torch.as_tensor(angles, dtype=torch.float64)
    sides = torch.tensor([5.0, 7, width, height], dtype=torch.float64).expand(len(angles), 4)
    return torch.cat((sides, angles[:, None]), dim=1)


@pytest.mark.parametrize("length", [1.0, 1e-3, 40.0])
def test_decoding_gives_the_longer_sides_angle_back(length):
    angles = torch.arange(-360, 361, 7, dtype=torch.float64)
    coder = AngleCoder()
    wide, high = boxes(30, 10, angles), boxes(10, 30, angles)
    for given, wanted in ((wide, angles), (high, angles + 90)):
        found = coder.decode(length * coder.encode(given))
        assert turn(found, wanted).max() < 1e-9
        assert found.abs().max() <= 90
    # by hand: at 45 degrees the doubled angle is a quarter turn, the fourfold one half a turn
    code = coder.encode(boxes(30, 10, [45.0]))
    torch.testing.assert_close(code[0], torch.tensor([0.0, 1, -1, 0], dtype=torch.float64))
    assert coder.encode(boxes(30, 10, [0.0]))[0].tolist() == list(CODE_OF_ZERO)


def test_a_code_has_no_seam():
    """Neighbouring rectangles have neighbouring codes: at 90 and -90, 45 and 135, any angle."""
    coder = AngleCoder()
    angles = torch.arange(-200, 200, 0.5, dtype=torch.float64)
    codes = coder.encode(boxes(30, 10, angles))
    assert (codes[1:] - codes[:-1]).norm(dim=1).max() < 0.04
    # from wide through square to high only the doubled angle's vector jumps
    before, after = coder.encode(boxes(20.001, 20, [33.0])), coder.encode(boxes(20, 20.001, [33.0]))
    torch.testing.assert_close(before[:, 2:], after[:, 2:])
    torch.testing.assert_close(before[:, :2], -after[:, :2])
    # and the two names that it chooses from are one square
    for code in (before, after):
        angle = coder.decode(code)[0]
        square = boxes(20, 20, [angle])
        assert box_iou(square, boxes(20, 20, [33.0]), fmt="cxcywhr").item() > 1 - 1e-9


def test_a_noisy_doubled_angle_does_not_move_the_answer():
    coder = AngleCoder()
    angles = torch.arange(-85, 90, 10, dtype=torch.float64)
    code = coder.encode(boxes(30, 10, angles))
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(code[:, :2].shape, generator=generator, dtype=torch.float64)
    code[:, :2] += 0.3 * noise.clamp(-1, 1)
    assert turn(coder.decode(code), angles).max() < 1e-9


def test_gradients_reach_the_fourfold_angle():
    coder = AngleCoder()
    code = coder.encode(boxes(30, 10, [-80.0, -20, 10, 70])).requires_grad_()
    assert torch.autograd.gradcheck(coder.decode, code)


def test_the_loss_by_hand():
    right = boxes(30, 10, [25.0, -70])
    codes = AngleCoder().encode(right)
    assert angle_loss(codes, right) == 0
    assert angle_loss(codes[:0], right[:0]) == 0
    # half a turn more is the same box
    assert angle_loss(codes, right + torch.tensor([0, 0, 0, 0, 180.0])) < 1e-20
    # a quarter turn: the doubled vector is opposite (4 apart, squared), the fourfold one the same;
    # its weight is (900 - 100) / (900 + 100)
    wrong = AngleCoder().encode(right + torch.tensor([0, 0, 0, 0, 90.0]))
    assert math.isclose(angle_loss(wrong, right), 4 * 0.8 / 2, rel_tol=1e-9)
    # an eighth of a turn: 2 apart of the doubled vector, 4 of the fourfold one
    wrong = AngleCoder().encode(right + torch.tensor([0, 0, 0, 0, 45.0]))
    assert math.isclose(angle_loss(wrong, right), (2 * 0.8 + 4) / 2, rel_tol=1e-9)
    square = boxes(20, 20, [10.0])
    quarter = AngleCoder().encode(boxes(20, 20, [100.0]))
    assert angle_loss(quarter, square) < 1e-20
