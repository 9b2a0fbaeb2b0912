"""Training, evaluation and prediction: one of each for all models."""

from __future__ import annotations

try:
    import accelerate  # noqa: F401
    import safetensors  # noqa: F401
    import yaml  # noqa: F401
except ImportError as error:
    raise ImportError(
        f"detcore.engine needs {error.name}: pip install 'detcore[models]'"
    ) from error
