"""The CUDA kernels in the built module, checked without a GPU.

Checks resources of threads and blocks (`cuobjdump --dump-resource-usage`), machine code
(`--dump-sass`) and PTX (`--dump-ptx`), by kernel and target.
"""

import re
import shutil
import subprocess
import sysconfig
from collections import Counter, defaultdict
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

import detcore
from detcore.ops._native import _C

SOURCES = Path(__file__).parents[1] / "csrc/kernels/cuda"


def tool(name: str) -> str | None:
    beside_python = Path(sysconfig.get_path("purelib")).glob(f"nvidia/cu*/bin/{name}")
    return shutil.which(name) or next((str(p) for p in beside_python), None)


CUOBJDUMP, NVDISASM = tool("cuobjdump"), tool("nvdisasm")
if not detcore.build_info()["cuda"]:
    pytest.skip("this build of detcore has no CUDA kernels", allow_module_level=True)
if CUOBJDUMP is None:
    pytest.skip("no cuobjdump (pip: nvidia-cuda-cuobjdump)", allow_module_level=True)
needs_nvdisasm = pytest.mark.skipif(
    NVDISASM is None, reason="no nvdisasm (pip: nvidia-cuda-nvdisasm)"
)


def run(*command: str, input: str | None = None) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, input=input).stdout


# --- names ---------------------------------------------------------------------------------------
class Kernel(NamedTuple):
    stem: str  # of its source, such as nms
    name: str  # mask_kernel
    arguments: str  # of its template: <(IouKind)0, float>

    @property
    def family(self) -> str:
        rotated = re.search(r"\bRotated(Boxes|Pairs|Candidates)\b", self.arguments)
        in_space = "_in_space" if "InSpace" in self.arguments else ""
        return f"{self.stem}.{self.name}{'_rotated' if rotated else ''}{in_space}"

    @property
    def f64(self) -> bool:
        """Whether any of its arithmetic is in double."""
        return "double" in self.arguments

    def __str__(self) -> str:
        return self.family + self.arguments


def kernels_named(symbols: list[str]) -> dict[str, Kernel]:
    """Kernels by mangled name. The name of the anonymous namespace contains the source's name."""
    found = {}
    demangled = run("c++filt", input="\n".join(symbols)).splitlines()
    for symbol, text in zip(symbols, demangled, strict=True):
        stem = re.search(r"_GLOBAL__N__[0-9a-f]+_\d+_(\w+?)_cu_[0-9a-f]+", symbol)
        name = re.search(r"\(anonymous namespace\)::(\w+)(<.*>)?\(", text)
        assert stem and name, f"{text}: no kernel of an anonymous namespace"
        arguments = re.sub(r"detcore::|\(anonymous namespace\)::", "", name[2] or "")
        # only the template arguments, not what follows
        depth = 0
        for at, letter in enumerate(arguments):
            depth += (letter == "<") - (letter == ">")
            if depth == 0:
                arguments = arguments[: at + 1]
                break
        found[symbol] = Kernel(stem[1], name[1], arguments)
    return found


# --- what a kernel costs -------------------------------------------------------------------------
class Use(NamedTuple):
    kernel: Kernel
    target: int  # 75: sm_75
    registers: int
    stack: int
    local: int
    shared: int  # bytes per block, without dynamic shared memory


# Bytes of shared memory per block that the system reserves, from sm_80 on. From sm_90 on, cuobjdump
# includes them if a kernel has its own shared memory.
SYSTEM_SHARED = 1024


@cache
def uses() -> list[Use]:
    text = run(CUOBJDUMP, "--dump-resource-usage", _C.__file__)  # type: ignore[arg-type]
    rows, target = [], 0
    for line in re.finditer(r"^arch = sm_(\d+)|^ Function (\S+):\s*\n\s*(.*)", text, re.M):
        if line[1]:
            target = int(line[1])
        else:
            rows.append((target, line[2], dict(re.findall(r"(\w+):(\d+)", line[3]))))
    kernels = kernels_named([symbol for _, symbol, _ in rows])
    found = []
    for target, symbol, use in rows:
        shared = int(use["SHARED"])
        if target >= 90 and shared:
            shared -= SYSTEM_SHARED
        numbers = (int(use[k]) for k in ("REG", "STACK", "LOCAL"))
        found.append(Use(kernels[symbol], target, *numbers, shared))
    return found


TARGETS = sorted({use.target for use in uses()})
FAMILIES = sorted({use.kernel.family for use in uses()})


class Machine(NamedTuple):
    """Limits of a multiprocessor, from the CUDA C++ Programming Guide, compute capabilities."""

    threads: int
    blocks: int
    shared: int  # KiB


MACHINES = {
    75: Machine(1024, 16, 64),
    80: Machine(2048, 32, 164),
    86: Machine(1536, 16, 100),
    89: Machine(1536, 24, 100),
    90: Machine(2048, 32, 228),
    100: Machine(2048, 32, 228),
    120: Machine(1536, 24, 100),
}
SHARED_UNASKED = 48 << 10  # limit per block, static and dynamic, by default
SHARED_ASKED = 64 << 10  # if a launcher asks for more dynamic memory than that; of sm_75


def resident_warps(use: Use, threads: int, dynamic: int) -> int:
    """Resident warps per multiprocessor; 0 if no block fits."""
    machine, warps = MACHINES[use.target], -(-threads // 32)
    # 64 Ki registers, allocated in units of 256 per warp; every fourth warp shares a quarter
    a_warp = -(-use.registers * 32 // 256) * 256
    by_registers = (65536 // a_warp) // 4 * 4 // warps
    shared = use.shared + dynamic + (SYSTEM_SHARED if use.target >= 80 else 0)
    unit = 128 if use.target >= 80 else 256
    by_shared = (machine.shared << 10) // (-(-shared // unit) * unit) if shared else machine.blocks
    return warps * min(by_registers, by_shared, machine.blocks, machine.threads // threads)


class Bound(NamedTuple):
    """Resource limits of a kernel, for arithmetic in float and in double.

    `warps` are the resident warps per multiprocessor. 32 is the maximum of sm_75, two thirds of
    that of sm_86, 89 and 120, and half of that of sm_80, 90 and 100.
    """

    registers: tuple[int, int] = (64, 128)  # per thread
    warps: tuple[int, int] = (32, 16)
    block: str | tuple[int, int] = "kThreads"  # threads: a constant of the source, or numbers
    dynamic: int = 0  # limit of dynamic shared memory in bytes


# A launch of one block only has to fit, because no other block shares the multiprocessor.
ONE_BLOCK = (1, 1)
BOUNDS = {
    # boxes and areas of four columns are in registers
    "box_iou.forward_kernel": Bound(registers=(80, 128), warps=(24, 16)),
    "box_iou.columns_backward_kernel": Bound(block=(512, 512), warps=(16, 16)),
    # both boxes, the four edges of one and five sums are in registers
    "box_iou_rotated.rows_backward_kernel": Bound(registers=(96, 168), warps=(20, 12)),
    "box_iou_rotated.columns_backward_kernel": Bound(
        block=(256, 256), registers=(96, 168), warps=(16, 8)
    ),
    # of boxes in space, two numbers more of each
    "box_iou_rotated.forward_kernel_in_space": Bound(registers=(80, 128), warps=(24, 16)),
    "box_iou_rotated.rows_backward_kernel_in_space": Bound(registers=(104, 176), warps=(16, 8)),
    "box_iou_rotated.columns_backward_kernel_in_space": Bound(
        block=(256, 256), registers=(112, 192), warps=(16, 8)
    ),
    # dfl keeps one softmax per side; scores are transposed in shared memory
    "decode_dense.forward_kernel": Bound(registers=(96, 128), warps=(16, 16)),
    "decode_dense.backward_kernel": Bound(registers=(120, 128), warps=(16, 16)),
    # four anchors and their best matches are in registers
    "match_boxes.pair_kernel": Bound(registers=(80, 128), warps=(24, 16)),
    # of rotated ones: a box, the edges of another, and what is clipped of them
    "match_boxes.pair_kernel_rotated": Bound(registers=(80, 152), warps=(24, 12)),
    "match_boxes.tie_kernel_rotated": Bound(registers=(72, 128), warps=(28, 16)),
    # one kernel selects, sorts and suppresses a class, in shared memory if 40 KiB are enough
    "multiclass_nms.select_kernel": Bound(registers=(96, 112), warps=(8, 8), dynamic=40 << 10),
    "multiclass_nms.select_kernel_rotated": Bound(
        registers=(112, 168), warps=(8, 8), dynamic=40 << 10
    ),
    "multiclass_nms.merge_kernel": Bound(warps=(8, 8), dynamic=40 << 10),
    # 2,048 boxes, 4,104 ends of buckets, and 11 bytes per box
    "nms.block_kernel": Bound(
        block=(1024, 512), warps=ONE_BLOCK, dynamic=2048 * 16 + 4104 * 2 + 2048 * 11
    ),
    "nms.decide_kernel": Bound(registers=(72, 128), warps=(24, 16)),
    # of rotated boxes: both, and the four edges of one, are in registers
    "nms.block_kernel_rotated": Bound(
        block=(512, 256),
        registers=(112, 168),
        warps=ONE_BLOCK,
        dynamic=2048 * 16 + 4104 * 2 + 2048 * 11,
    ),
    "nms.compare_kernel_rotated": Bound(registers=(80, 128), warps=(24, 16)),
    "nms.decide_kernel_rotated": Bound(registers=(96, 168), warps=(16, 8)),
    "nms.block_kernel_in_space": Bound(
        block=(512, 256),
        registers=(112, 192),
        warps=ONE_BLOCK,
        dynamic=2048 * 16 + 4104 * 2 + 2048 * 11,
    ),
    "nms.compare_kernel_in_space": Bound(registers=(80, 144), warps=(24, 8)),
    "nms.decide_kernel_in_space": Bound(registers=(112, 176), warps=(16, 8)),
    # both boxes, the edges and corners of one, and five sums are in registers
    "paired_box_iou.rotated_backward_kernel": Bound(registers=(112, 216), warps=(16, 8)),
    # 16 pixels of four channels, or of 16 bytes of channels, are in flight together
    "roi_align.bin_kernel": Bound(registers=(152, 128), warps=(12, 16)),
    # sums of 16 bytes of channels as floats, per row and in total; 8 KiB of taps (f64: 16)
    "roi_align.forward_kernel": Bound(block=(128, 128), registers=(96, 128), warps=(20, 12)),
    "roi_align.direct_kernel": Bound(block=(128, 128), registers=(96, 128), warps=(20, 16)),
    # sums of 8 channels, 8 values in flight; 19 KiB of weights and gradients (f64: 36)
    "roi_align_backward.backward_kernel": Bound(registers=(80, 128), warps=(24, 8)),
    # four pixels of four channels, or of 16 bytes of channels, and a region's geometry
    "roi_align_rotated.forward_kernel": Bound(
        block=(128, 128), registers=(96, 112), warps=(20, 16)
    ),
    "roi_align_rotated.geometry_kernel": Bound(block=(64, 64)),
    # sums of 8 pixels of two channels, a bin's weights for these, and a region's geometry
    "roi_align_rotated_backward.backward_kernel": Bound(registers=(128, 200), warps=(16, 8)),
    "roi_align_rotated_backward.geometry_kernel": Bound(block=(64, 64)),
    # sums, places and gradients of 8 channels
    "roi_pool_backward.backward_kernel": Bound(registers=(80, 128), warps=(24, 16)),
    "soft_nms.select_kernel": Bound(block="kMostThreads", warps=ONE_BLOCK),
    # a step has one box, so its latency counts, and a block is all that a label needs
    "weighted_boxes_fusion.fuse_kernel": Bound(registers=(72, 128), warps=(28, 16)),
}


def block_of(kernel: Kernel) -> int:
    block = BOUNDS.get(kernel.family, Bound()).block
    if isinstance(block, tuple):
        return block[kernel.f64]
    found = re.search(rf"constexpr int {block} = (\d+);", source_of(kernel))
    assert found, f"{kernel.family}: no 'constexpr int {block} = ' in its source: say in BOUNDS"
    return int(found[1])


@cache
def source_of(kernel: Kernel) -> str:
    return (SOURCES / f"{kernel.stem}.cu").read_text()


def test_every_kernel_is_there_for_every_target() -> None:
    by_target = defaultdict(list)
    for use in uses():
        by_target[use.target].append(str(use.kernel))
    for target, kernels in by_target.items():
        assert sorted(kernels) == sorted(by_target[TARGETS[0]]), f"sm_{target}"
    stated = re.findall(r"(\d+)\.(\d)", detcore.build_info()["cuda_targets"])
    assert [int(major + minor) for major, minor in stated] == TARGETS
    launchers = {p.stem for p in SOURCES.glob("*.cu") if "__global__" in p.read_text()}
    assert {family.split(".")[0] for family in FAMILIES} == launchers


def test_bounds_are_of_kernels_that_exist() -> None:
    assert sorted(set(BOUNDS) - set(FAMILIES)) == []


@pytest.mark.parametrize("family", FAMILIES)
def test_no_stack_and_no_local_memory(family: str) -> None:
    failed = [
        f"{use.kernel} on sm_{use.target}: wanted no stack and no local memory, "
        f"got {use.stack} and {use.local} bytes per thread"
        for use in uses()
        if use.kernel.family == family and (use.stack or use.local)
    ]
    assert not failed, "\n".join(failed)


@pytest.mark.parametrize("family", FAMILIES)
def test_registers_shared_memory_and_occupancy(family: str) -> None:
    bound, failed = BOUNDS.get(family, Bound()), ""
    for use in uses():
        if use.kernel.family != family:
            continue
        registers, warps = bound.registers[use.kernel.f64], bound.warps[use.kernel.f64]
        threads = block_of(use.kernel)
        most = SHARED_ASKED if bound.dynamic > SHARED_UNASKED else SHARED_UNASKED
        resident = resident_warps(use, threads, bound.dynamic)
        for what, fine, wanted, got in (
            ("registers per thread", use.registers <= registers, f"at most {registers}",
             use.registers),
            ("bytes of shared memory", use.shared + bound.dynamic <= most,
             f"at most {most}", use.shared + bound.dynamic),
            (f"resident warps in blocks of {threads} threads, {use.registers} registers each",
             resident >= warps, f"at least {warps}", resident),
        ):  # fmt: skip
            if not fine:
                failed += f"\n{use.kernel} on sm_{use.target}: {what}: wanted {wanted}, got {got}"
    assert not failed, failed


# --- what the machine code does ------------------------------------------------------------------
@cache
def instructions(target: int) -> dict[Kernel, Counter[str]]:
    """The number of each instruction in each kernel, without predicates and operands."""
    command = [CUOBJDUMP, "--dump-sass", "-arch", f"sm_{target}", _C.__file__]
    environment = {"PATH": f"{Path(NVDISASM or '').parent}:/usr/bin:/bin"}
    counts: dict[str, Counter[str]] = {}
    symbol = ""
    line = re.compile(r"\s+/\*[0-9a-f]{4,}\*/\s+(?:@\S+ +)?([A-Z][\w.]*)|\s+Function : (\S+)")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        for text in process.stdout:  # type: ignore[union-attr]
            found = line.match(text)
            if found and found[1]:
                counts[symbol][found[1]] += 1
            elif found:
                symbol = found[2]
                counts[symbol] = Counter()
    assert process.returncode == 0
    kernels = kernels_named(list(counts))
    return {kernels[symbol]: of_kernel for symbol, of_kernel in counts.items()}


def holds(counts: Counter[str], access: str) -> bool:
    """access: "LDG.128": a load of 128 bits from global memory, however cached."""
    operation, bits = access.split(".")
    return any(i.split(".")[0] == operation and bits in i.split(".") for i in counts)


# The 16-byte accesses that the sources state: storage of the tensors, and the accesses.
STORAGES = {"f32": "float", "f64": "double", "f16": "__half", "bf16": "__nv_bfloat16"}
WIDE = [
    # a store has the overlaps of four boxes; a box of floats is one load
    ("box_iou", "f32", {"LDG.128", "STG.128"}),
    ("box_iou", "f16", {"STG.128"}),
    ("box_iou", "bf16", {"STG.128"}),
    # channels-last: four or eight channels at once; planar maps have another kernel
    ("roi_align", "f32", {"LDG.128", "STG.128"}),
    ("roi_align", "f16", {"LDG.128", "STG.128"}),
    ("roi_align", "bf16", {"LDG.128", "STG.128"}),
    ("roi_align_rotated", "f32", {"LDG.128", "STG.128"}),
    ("roi_align_rotated", "f16", {"LDG.128", "STG.128"}),
    ("roi_pool", "f32", {"LDG.128", "STG.128"}),
    ("roi_pool", "f16", {"LDG.128", "STG.128"}),
]
# sm_75 takes seconds, the rest a minute
EACH_TARGET = pytest.mark.parametrize(
    "target",
    [t if t == TARGETS[0] else pytest.param(t, marks=pytest.mark.slow) for t in TARGETS],
    ids=lambda t: f"sm_{t}",
)


@needs_nvdisasm
@pytest.mark.parametrize(
    ("stem", "storage", "accesses"), WIDE, ids=[f"{stem}-{storage}" for stem, storage, _ in WIDE]
)
@EACH_TARGET
def test_accesses_of_16_bytes(target: int, stem: str, storage: str, accesses: set[str]) -> None:
    forward = {
        kernel: counts
        for kernel, counts in instructions(target).items()
        if kernel.stem == stem and "forward" in kernel.name
        and re.search(rf"\b{STORAGES[storage]}\b", kernel.arguments)
    }  # fmt: skip
    assert forward
    missing = {
        str(kernel): sorted(a for a in accesses if not holds(counts, a))
        for kernel, counts in forward.items()
    }
    # each kind of IoU has one kernel with them, and one for unaligned or planar tensors
    kinds = {re.search(r"\(IouKind\)\d|$", kernel)[0] for kernel in missing}  # type: ignore[index]
    lacking = "\n".join(f"{kernel}: no {' and no '.join(m)}" for kernel, m in missing.items() if m)
    served = all(any(k in kernel and not m for kernel, m in missing.items()) for k in kinds)
    assert served, f"sm_{target}:\n{lacking}"


@needs_nvdisasm
@EACH_TARGET
def test_no_spills_and_no_atomics_on_floats(target: int) -> None:
    """Sums have a fixed order, so there are no float atomics and no compare-and-swap either."""
    failed = []
    assert len(instructions(target)) == sum(use.target == target for use in uses())
    for kernel, counts in instructions(target).items():
        assert counts["EXIT"], kernel
        for instruction in counts:
            operation, *parts = instruction.split(".")
            atomic = operation in ("RED", "ATOM", "ATOMG", "ATOMS", "REDG", "REDAS")
            on_floats = atomic and any(re.match(r"B?F(P)?(16|32|64)", part) for part in parts)
            swap = atomic and "CAS" in parts and "backward" in kernel.name
            if on_floats or swap or operation in ("LDL", "STL"):
                failed.append(f"{kernel} on sm_{target}: {instruction}")
    assert not failed, "\n".join(failed)


# --- what the assembler was told -----------------------------------------------------------------
# exp, log and atan are polynomials with fused multiply-adds, and no decision depends on their last
# bit. ROI-align's sums are fused on purpose.
MAY_FUSE = re.compile(
    r"box_codec\.(en|de)code|decode_dense\."
    r"|box_iou\..*\(IouKind\)3"  # ciou: atan
    r"|soft_nms\..*\(SoftNmsMethod\)1"  # gaussian: exp
    r"|roi_align"
)


@cache
def ptx() -> dict[Kernel, str]:
    text = run(CUOBJDUMP, "--dump-ptx", _C.__file__)  # type: ignore[arg-type]
    pieces = re.split(r"\.entry (\w+)\(", text)
    kernels = kernels_named(pieces[1::2])
    return {kernels[s]: body for s, body in zip(pieces[1::2], pieces[2::2], strict=True)}


def test_arithmetic_is_not_contracted() -> None:
    """No multiply-add is fused, and the assembler must not fuse any: `.rn` and `.rz` forbid that.

    The quotients that NMS and matching compare follow IEEE 754: `div.rn`.
    """
    if not ptx():
        pytest.skip("this build holds no PTX: TORCH_CUDA_ARCH_LIST without +PTX")
    failed = []
    for kernel, body in ptx().items():
        loose = re.findall(r"\b(?:mul|add|sub|mad|div)(?!\.r[nz])[.\w]*\.f(?:32|64)\b", body)
        fused = re.findall(r"\b(?:fma|mad)\.[.\w]*\bf(?:32|64)\b", body)
        if MAY_FUSE.search(str(kernel)):
            fused = []
        failed += [f"{kernel}: {n} x {i}" for i, n in Counter(loose + fused).items()]
    assert not failed, "\n".join(failed)
    deciding = {"nms", "multiclass_nms", "match_boxes"}
    assert deciding <= {k.stem for k, body in ptx().items() if "div.rn.f32" in body}
