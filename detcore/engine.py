"""Old import paths, for this version alone: what was `detcore.engine` lies in rooms by job now."""

import importlib
import sys
import warnings

_MOVED = {
    "train": "detcore.training.trainer",
    "config": "detcore.training.config",
    "checkpoint": "detcore.checkpoints.checkpoint",
    "evaluate": "detcore.evaluation.evaluator",
    "predict": "detcore.inference.predictor",
}

warnings.warn(
    "detcore.engine goes with the next version; import instead "
    + ", ".join(f"{new} (was engine.{old})" for old, new in _MOVED.items()),
    FutureWarning,
    stacklevel=2,
)
for _old, _new in _MOVED.items():
    sys.modules[f"{__name__}.{_old}"] = globals()[_old] = importlib.import_module(_new)
