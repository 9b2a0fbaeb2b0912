"""detcore: fast detection ops for PyTorch, and the detectors assembled from them.

`detcore.ops` needs torch and numpy alone; models, data and training come with detcore[models].
"""

import importlib
from typing import Any

__version__ = "0.1.0"
__all__ = ["__version__", "build_info", "optimize", "patch_torchvision"]


def optimize(model: Any, **options: Any) -> Any:
    """A copy of a model made ready for inference: see `detcore.models.optimize`."""
    # imported when called: models come with an extra, which `import detcore.ops` must not need
    return importlib.import_module("detcore.models").optimize(model, **options)


def patch_torchvision() -> Any:
    """Let torchvision and its callers use detcore's ops: see `detcore.compat.patch_torchvision`."""
    return importlib.import_module("detcore.compat").patch_torchvision()


def build_info() -> dict[str, Any]:
    """Versions, compilers, CUDA targets and instruction sets of this build, and what is in use.

    Keys: version, torch, torch_target (the oldest torch the module serves), compiler, pybind11,
    handover (how this torch gives tensors to the module; "" if only the registered operators can
    take them), instruction_sets (compiled), isa (in use), threads, cuda (compiler version or None),
    cuda_targets, cuda_error (None, or why CUDA can't be used here, in the driver's words).
    """
    import torch

    from .ops._native import _C

    return {
        "version": __version__,
        "torch": torch.__version__,
        **_C.build_facts(),
        "handover": _C.handover(),
        "isa": _C.isa(),
        "threads": torch.get_num_threads(),
        "cuda_error": _C.cuda_error(),
    }
