"""Training: one trainer for all models."""

from __future__ import annotations

try:
    import accelerate  # noqa: F401
    import yaml  # noqa: F401
except ImportError as error:
    raise ImportError(
        f"detcore.training needs {error.name}: pip install 'detcore[models]'"
    ) from error
