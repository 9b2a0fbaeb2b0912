"""The check of a machine with a GPU: `scripts/gpu_check.sh`, in parts that can't stop each other.

Each part is a module with `main(rows, dry)`, run in a process of its own (`child.py`) under a time
limit (`process.py`). What it finds it writes row by row (`rows.py`), so that a part which is killed
keeps what it had. `__main__.py` builds, runs the parts, and prints the table (`table.py`).
"""
