"""Sphinx's configuration. `make docs` builds the pages and runs their examples."""

import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))
sys.path.insert(0, str(HERE.parent))  # this tree, however detcore is installed

# examples are small, and threads that wait for each other make them slow on a busy machine
os.environ.setdefault("OMP_NUM_THREADS", "1")

import detcore  # noqa: E402

project = "detcore"
author = "the authors of detcore"
copyright = "the authors of detcore"
version = release = detcore.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.doctest",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
    "generated",  # _ext/generated.py: pictures, tables and the command line's pages
]
# parts of pages, which these include
exclude_patterns = ["_build", "_generated"]

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath", "fieldlist", "substitution"]
myst_heading_anchors = 3
myst_substitutions = {"version": release}

# `nms` in a docstring is a link to the function of that name
default_role = "py:obj"
autodoc_typehints = "none"  # docstrings give shapes and dtypes, which types do not
autodoc_member_order = "bysource"
autosummary_generate = False
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_custom_sections = ["Edge cases", "Cost", "Equivalents"]
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"

doctest_global_setup = """
import torch
import detcore
from detcore import ops

torch.manual_seed(0)
"""

copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

html_theme = "furo"
html_title = f"detcore {release}"
html_static_path = ["_static"]
html_css_files = ["detcore.css"]
html_theme_options = {"sidebar_hide_name": False, "navigation_with_keys": True}
# pages do not wait for another server
html_copy_source = False
html_show_sphinx = False
