"""What a training run saves, and how it becomes a model again."""

from __future__ import annotations

try:
    import safetensors  # noqa: F401
except ImportError as error:
    raise ImportError(
        f"detcore.checkpoints needs {error.name}: pip install 'detcore[models]'"
    ) from error
