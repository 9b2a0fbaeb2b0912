"""Other libraries' names for detcore's ops: `torchvision_ops`, and `patch_torchvision`."""

from detcore.compat.patch import Patch, patch_torchvision

__all__ = ["Patch", "patch_torchvision"]
