"""The extension module, or a clear word on why there is none."""

try:
    # torch first: the module finds libtorch through it
    import torch  # noqa: F401

    import detcore._C as _C
except ImportError as error:
    raise ImportError(
        "detcore's native module could not be loaded; build it with `make build` or "
        f"`pip install --no-build-isolation -e .` (torch 2.10 or newer is needed): {error}"
    ) from error

__all__ = ["_C"]
