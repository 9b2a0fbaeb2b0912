"""Errors of Darknet files name file, section, line, and expected and actual values."""

import random
import re
import struct

import pytest
import torch

from detcore.weights import load_darknet

from .conftest import NET, Floats
from .test_darknet import HEAD, STEM, YOLO

SECTION = r"net\.cfg: section {} \[{}\] \(layer {}\), line {}: "


def refused(written, cfg: str, weights: bytes, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        load_darknet(*written(cfg, weights))


@pytest.mark.parametrize(
    ("cfg", "text"),
    [
        ("", "the first section must be [net], got no section"),
        ("\x00\x01rubbish", "line 1: [net] wanted, got '\\x00\\x01rubbish'"),
        ("[convolutional]\n", "the first section must be [net], got [convolutional] in line 1"),
        ("[net]\nwidth 8\n", "line 2: key=value wanted, got 'width 8'"),
        ("[net\nwidth=8\n", "line 1: [section] wanted, got '[net'"),
        ("[net]\nwidth=-8\n", "section 0 [net], line 2: width must be an integer in 1..32768"),
        ("[net]\nwidth=\n", "width must be integers, got ''"),
        ("[net]\nwidth=8.5\n", "width must be integers, got '8.5'"),
        ("[net]\nwidth=8\nwidth=9\n", "width must have one value, got '8' and in line 3 '9'"),
        ("[net]\nheight=99999999999999999999\n", "height must be integers"),
        ("[net]\nchannels=1\n", "channels must be an integer in 3..3, got 1"),
        ("[net]\nwidth=32768\nheight=32768\n", "a map of at most 268435456 values wanted, got 3 x"),
        (NET, "at least one [yolo] section wanted, got none"),
    ],
)
def test_cfg(written, cfg, text):
    refused(written, cfg, Floats().file(), re.escape(text))


@pytest.mark.parametrize(
    ("section", "text"),
    [
        ("[lstm]\n", "a section of convolutional, route, .*, yolo wanted, got lstm"),
        ("[route]\n", "layers must be given, got none"),
        ("[route]\nlayers=7\n", r"layers must name earlier layers, -1\.\.0, got 7"),
        ("[route]\nlayers=-2\n", r"layers must name earlier layers, -1\.\.0, got -2"),
        ("[route]\nlayers=1\n", r"layers must name earlier layers, -1\.\.0, got 1"),
        ("[route]\nlayers=0\ngroups=3\n", "groups must divide 4 channels of layer 0, got 3"),
        ("[route]\nlayers=0\ngroups=2\ngroup_id=2\n", r"group_id must be an integer in 0\.\.1"),
        ("[shortcut]\nfrom=-9\n", r"from must name earlier layers, -1\.\.0, got -9"),
        ("[shortcut]\nfrom=0\nactivation=gelu\n", "activation must be one of linear, .*, got 'ge"),
        ("[shortcut]\nfrom=0\nweights_type=per_channel\n", "only weights_type=none is supported"),
        ("[maxpool]\nsize=0\n", r"size must be an integer in 1\.\.255, got 0"),
        ("[maxpool]\nsize=50\npadding=0\n", "size must fit a padded map of 8, got 50"),
        ("[maxpool]\nsize=2\npadding=3\n", r"padding must be an integer in 0\.\.2, got 3"),
        ("[upsample]\nstride=-2\n", r"stride must be an integer in 1\.\.255, got -2"),
        ("[upsample]\nscale=2\n", "scale must be 1, got 2"),
        ("[upsample]\nstride=255\n" * 2, "a map of at most 268435456 values wanted"),
        (YOLO, r"a map of 1 \* \(5 \+ 1\) channels wanted, .*, got 4"),
        ("[yolo]\nanchors=1,2,3\nnum=1\n", "anchors must be 2 numbers, .*, got 3"),
        ("[yolo]\nanchors=1,-2\n", "anchors must be numbers above 0, got '1,-2'"),
        ("[yolo]\nanchors=1,nan\n", "anchors must be numbers above 0, got '1,nan'"),
        ("[yolo]\nanchors=1,2\nmask=1\n", r"mask must be of anchors 0\.\.0, got \[1\]"),
        ("[yolo]\nanchors=1,2\nclasses=0\n", r"classes must be an integer in 1\.\.65536, got 0"),
        ("[yolo]\nanchors=1,2\nnew_coords=1\n", "only new_coords=0 is supported, got '1'"),
        ("[convolutional]\nfilters=-1\n", r"filters must be an integer in 1\.\.1048576, got -1"),
        ("[convolutional]\nsize=-3\n", r"size must be an integer in 1\.\.255, got -3"),
        ("[convolutional]\nfilters=4\ngroups=3\n", "groups must divide 4 channels and 4 filters"),
        ("[convolutional]\nsize=99\n", "size must fit a padded map of 8, got 99"),
        ("[convolutional]\ndilation=2\n", "only dilation=1 is supported, got '2'"),
        ("[convolutional]\ndontload=1\n", "only dontload=0 is supported, got '1'"),
        (
            "[convolutional]\nfilters=1000000\n",
            r"1000000 floats wanted for biases \[1000000\], got",
        ),
    ],
)
def test_section(written, section, text):
    floats = Floats()
    floats.draw(100)
    refused(written, NET + STEM + section, floats.file(), text)


def test_a_message_whole(written):
    floats = Floats()
    floats.draw(100)
    text = SECTION.format(2, "route", 1, 11) + r"layers must name earlier layers, -1\.\.0, got 7$"
    refused(written, NET + STEM + "[route]\n# far away\nlayers=7\n", floats.file(), text)
    text = SECTION.format(2, "route", 1, 9) + "layers must be given, got none$"
    refused(written, NET + STEM + "[route]\n", floats.file(), text)


def test_route_of_different_sizes_and_of_a_yolo_layer(written):
    floats = Floats()
    floats.draw(200)
    small = "[maxpool]\nsize=2\nstride=2\n[route]\nlayers=0,1\n"
    text = r"layers must be of one height and width, got \(4, 8, 12\) of layer 0 and \(4, 4, 6\)"
    refused(written, NET + STEM + small, floats.file(), text)
    text = "a map of features wanted, got layer 1, which is a yolo layer"
    refused(written, NET + HEAD + "[route]\nlayers=-1\n", floats.file(), text)
    refused(written, NET + HEAD + "[dropout]\n", floats.file(), text)
    small = "[maxpool]\nsize=2\nstride=2\n[shortcut]\nfrom=0\n"
    text = r"from must name layers of \(4, 4, 6\), got \(4, 8, 12\) of layer 0"
    refused(written, NET + STEM + small, floats.file(), text)


def test_yolo_sections_of_different_classes(written):
    floats = Floats()
    floats.draw(24 + 4 * 7)
    other = HEAD.replace("filters=6", "filters=7").replace("classes=1", "classes=2")
    text = "classes must be 1 as in the yolo section before, got 2"
    refused(
        written, NET + HEAD + "[route]\nlayers=0\n" + other, floats.file()[:-4], "floats wanted"
    )
    floats.draw(100)
    refused(written, NET + HEAD + "[route]\nlayers=0\n" + other, floats.file(), text)


def test_weights_of_another_length(written):
    floats = Floats()
    floats.draw(6 + 18)
    whole = floats.file()
    cfg = NET + HEAD
    place = r"net\.weights: \S*" + SECTION.format(1, "convolutional", 0, 5)
    cases = [
        (whole[:-4], place + r"18 floats wanted for weights \[6, 3, 1, 1\], got 17: the file is"),
        (whole[:-1], place + r"18 floats wanted for weights \[6, 3, 1, 1\], got 17: the file is"),
        (whole[:24], place + r"6 floats wanted for biases \[6\], got 1: the file is cut off"),
        (whole + b"\0", r"net\.weights: 116 bytes wanted by \S*net\.cfg, got 117: 1 are left over"),
        (whole + b"\0" * 8, "116 bytes wanted by .*, got 124: 8 are left over"),
        (b"", "a header of 16 or 20 bytes wanted, got 0 bytes"),
        (whole[:18], r"a header of 20 bytes wanted for version 0\.2\.5, got 18 bytes"),
    ]
    for weights, text in cases:
        refused(written, cfg, weights, text)


def test_weights_that_are_no_numbers(written):
    floats = Floats()
    floats.draw(6 + 18)
    floats.drawn[0][4] = torch.nan
    refused(written, NET + HEAD, floats.file(), "finite biases wanted, got nan at 4 of 6")
    floats.drawn[0][4] = 0
    floats.drawn[0][9] = torch.inf
    refused(written, NET + HEAD, floats.file(), "finite weights wanted, got inf at 3 of 18")
    text = "a header with a version of .* wanted, got 2143289344.2143289344.2143289344"
    refused(written, NET + HEAD, struct.pack("<5f", *[torch.nan] * 5), text)
    refused(written, NET + HEAD, b"\xff" * 200, r"got -1\.-1\.-1")


def test_negative_variance(written):
    floats = Floats()
    floats.draw(3 * 4)
    floats.draw(4).copy_(torch.tensor([1.0, 1.0, -0.5, 1.0]))
    text = r"variances of at least 0 wanted, got -0\.5: the file is of another cfg"
    cfg = NET + STEM + "batch_normalize=1\n"
    refused(written, cfg, floats.file(), text)


def test_pickles_and_pictures_are_refused_unread(written, tmp_path):
    class Bomb:
        def __reduce__(self):
            return (tmp_path.joinpath("touched").touch, ())

    torch.save(Bomb(), tmp_path / "bomb.pt")
    bomb = (tmp_path / "bomb.pt").read_bytes()
    refused(written, NET + HEAD, bomb, "a header with a version")
    assert not (tmp_path / "touched").exists()
    cfg, weights = written(NET, bomb)
    cfg.write_bytes(bytes(range(128, 256)))
    with pytest.raises(ValueError, match="a cfg must be UTF-8 text"):
        load_darknet(cfg, weights)
    cfg.write_bytes(b"#" * ((1 << 20) + 1))
    with pytest.raises(ValueError, match="a cfg must be at most 1048576 bytes"):
        load_darknet(cfg, weights)


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_darknet(tmp_path / "no.cfg", tmp_path / "no.weights")


def test_no_edit_of_a_cfg_does_worse_than_a_value_error(written):
    """After random changes of lines, a cfg either loads and runs, or raises ValueError."""
    floats = Floats()
    # the weights for the cfg below without changes
    floats.draw(4 * (3 + 1) + 4 * (4 + 1) + 6 * (8 + 1))
    lines = (
        NET + STEM + "[convolutional]\nfilters=4\nactivation=mish\n[shortcut]\nfrom=-2\n[route]\n"
        "layers=-1,0\ngroups=2\ngroup_id=1\n[maxpool]\nsize=2\nstride=1\n[upsample]\nstride=2\n"
        "[route]\nlayers=-1,-1\n" + HEAD
    ).splitlines()
    numbers = (-1, 0, 1, 2, 3, 5, 255, 32768, 10**9)
    values = (*map(str, numbers), "nan", "a", ",", "-1,-2")
    chance = random.Random(0)
    loads = 0
    for _ in range(300):
        edited = list(lines)
        for _ in range(chance.choice((1, 1, 2, 4))):
            i = chance.randrange(len(edited))
            kind = chance.choice(("value", "value", "lose", "double"))
            if kind == "value":
                edited[i] = edited[i].split("=")[0] + "=" + chance.choice(values)
            elif kind == "lose":
                del edited[i]
            else:
                edited.insert(i, chance.choice(lines))
        try:
            model = load_darknet(*written("\n".join(edited), floats.file()))
        except ValueError:
            continue
        loads += 1
        with torch.no_grad():
            model([torch.zeros(3, 8, 12)])
    # both outcomes happen
    assert 30 < loads < 250
