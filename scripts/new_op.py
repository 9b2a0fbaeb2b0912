"""Writes the skeleton of a new op into every layer; its tests fail until the op is complete.

    python scripts/new_op.py NAME

It writes one file per layer, from scripts/op_template/, and an entry in each list: the registry,
the names of the two packages, and the C++ test of launchers. The skeleton takes boxes [N, 4] and
returns [N] zeros; its kernels return an error until you remove that. Everything to write is marked
TODO. CONTRIBUTING.md explains the rest.
"""

import argparse
import keyword
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
TEMPLATE = ROOT / "scripts" / "op_template"

OPERATOR = """    "new_op": Operator(
        "new_op", lambda: [boxes(300)],
        (0, torch.ones(7, 5), "new_op: boxes must be [N, 4], got [7, 5]"),
    ),
"""
CALL = """    "new_op": Call(
        "new_op", lambda on, b: on.new_op(b),
        lambda seed, n: [boxes(n, seed)],
        (),  # TODO: of two tensors or more, _names("new_op", "boxes", "others")
    ),
"""
LAUNCHER = """void new_op(Side& s, int64_t n) {
  NewOpParams p{};  // TODO: as the header has it
  p.boxes = s.put(boxes(n, 1)), p.n = n;
  float* out = s.room<float>(n);
  p.out = out;
  s.run(new_op_cpu, new_op_cuda, p);
  s.take(out, n);
}

"""
NEXT = """
The skeleton compiles (make native-tests builds module, C++ tests and CUDA simulator), but fails:
    pytest tests/ops tests/simt tests/bench tests/test_installed.py -k new_op
shows what is missing, beginning with the TODOs that are left. CONTRIBUTING.md, "Adding an op",
explains the order of the steps, and names examples of ops with other tensors. When the operator's
schema is final, update two generated lists, and add a line to the README's table of ops, to the
docstring of detcore.ops and to a page of docs/reference/ops:
    python scripts/write_stubs.py --write
    python scripts/op_table.py --write
    pytest tests/test_docs.py tests/test_docstrings.py tests/test_kernel_sources.py
    pytest tests/ops/test_registry.py"""
# file, a mark that is in it once, the text to insert before the mark
ENTRIES = (
    ("detcore/ops/registry.py", "}  # fmt: skip\n\nSTEMS", OPERATOR),
    ("detcore/ops/registry.py", "}  # fmt: skip\n$", CALL),
    ("detcore/ops/__init__.py", "\n__all__ = [\n", "from .new_op import new_op\n"),
    ("detcore/ops/__init__.py", "]\n$", '    "new_op",\n'),
    ("detcore/reference/__init__.py", "\n__all__ = [\n", "from .new_op import new_op\n"),
    ("detcore/reference/__init__.py", "]\n$", '    "new_op",\n'),
    ("tests/cpp/test_launchers.cpp", '#include "detcore/nms.h"\n', '#include "detcore/new_op.h"\n'),
    ("tests/cpp/test_launchers.cpp", "struct Case {\n", LAUNCHER),
    ("tests/cpp/test_launchers.cpp", "};\n\nvoid says", "    CASE(new_op, 1e-5, false),\n"),
)


def named(text: str, name: str) -> str:
    camel = "".join(part.capitalize() for part in name.split("_"))
    return text.replace("new_op", name).replace("NewOp", camel)


def insert(text: str, mark: str, addition: str, file: str) -> str:
    """Insert an addition before a mark. A mark that ends in $ is the last one of the file."""
    at = text.rfind(mark[:-1]) if mark.endswith("$") else text.find(mark)
    if at < 0:
        raise SystemExit(f"new_op: {file} has no {mark!r}; the new entry must be before it")
    return text[:at] + addition + text[at:]


def check(name: str) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        raise SystemExit(f"new_op: NAME must be a name such as box_area, got {name!r}")
    there = [path for path in planned(name) if path.exists()]
    if there:
        raise SystemExit(f"new_op: {there[0].relative_to(ROOT)} is there already")


def planned(name: str) -> list[Path]:
    return [
        ROOT / named(str(path.relative_to(TEMPLATE)), name)
        for path in sorted(TEMPLATE.rglob("*new_op.*"))
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", help="such as box_area: letters, digits and underscores")
    name = parser.parse_args().name
    check(name)
    texts: dict[str, str] = {}
    for file, mark, addition in ENTRIES:  # check all of them before anything is written
        text = texts.get(file) or (ROOT / file).read_text(encoding="utf-8")
        texts[file] = insert(text, mark, named(addition, name), file)
    for template, path in zip(sorted(TEMPLATE.rglob("*new_op.*")), planned(name), strict=True):
        path.write_text(named(template.read_text(encoding="utf-8"), name), encoding="utf-8")
        print(f"wrote  {path.relative_to(ROOT)}")
    for file, text in texts.items():
        (ROOT / file).write_text(text, encoding="utf-8")
        print(f"entry  {file}")
    touched = [*(p for p in planned(name) if p.suffix == ".py"), *texts]
    python = [str(p) for p in touched if str(p).endswith(".py")]
    ruff = [sys.executable, "-m", "ruff"]
    subprocess.run([*ruff, "check", "--quiet", "--fix", "--select", "I,RUF022", *python], cwd=ROOT)
    subprocess.run([*ruff, "format", "--quiet", *python], cwd=ROOT)
    lay_out_native([*(p for p in planned(name) if p.suffix != ".py"), *map(ROOT.joinpath, texts)])
    print(NEXT.replace("new_op", name))


def lay_out_native(paths: list[Path]) -> None:
    """Run clang-format, if it is installed: a long name can make lines too long."""
    native = [str(p) for p in paths if p.suffix in {".h", ".cpp", ".cu"}]
    clang_format = shutil.which("clang-format", path=str(Path(sys.executable).parent))
    clang_format = clang_format or shutil.which("clang-format")
    if clang_format and (ROOT / ".clang-format").exists():
        subprocess.run([clang_format, "-i", *native], cwd=ROOT)
    else:
        print("note   no clang-format found: run `make format` to format the C++ files")


if __name__ == "__main__":
    main()
