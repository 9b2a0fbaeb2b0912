"""The names of the files of a run; others in its folder are somebody's, and are left alone."""

from detcore.training import resume_state

WEIGHTS = ("best.safetensors", "last.safetensors")
CHECKPOINTS = (*WEIGHTS, "best.json", "last.json", resume_state.NAME)
TABLES = ("log.csv", "val.csv")
RESULTS = ("metrics.json", "loss.png")
SETTINGS = "config.yaml"
RUN_FILES = (*CHECKPOINTS, *TABLES, *RESULTS, SETTINGS)
