"""The site: `make docs` executes every page and fails at the first warning."""

import steelyard

project = "steelyard"
author = "the steelyard authors"
version = release = steelyard.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
exclude_patterns = ["build"]
html_theme = "furo"
html_title = "steelyard"
html_static_path = ["static"]
html_css_files = ["site.css"]

myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 3
nb_execution_mode = "cache"
nb_execution_cache_path = "../build/pages"
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_output_stderr = "warn"  # a warning that a page did not mean to show fails the build
nb_merge_streams = True

autodoc_member_order = "bysource"
autodoc_typehints = "none"
napoleon_numpy_docstring = True
napoleon_use_rtype = False
