"""The check of a machine with a GPU (`scripts/gpu_check.sh`), in independent parts.

Each part is a module with `main(rows, dry)`, which runs in its own process (`child.py`) under a
time limit (`process.py`). It writes its results row by row (`rows.py`), so that nothing is lost if
the part is killed. `__main__.py` builds, runs the parts, and prints the table (`table.py`).
"""
