"""The documentation site: `tox -e docs` builds it, from these pages and the docstrings, without any network."""

from __future__ import annotations

from repo_notify import __version__

project = "repo_notify"
author = "The authors of repo_notify"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
html_theme = "furo"
html_title = f"repo_notify {__version__}"
html_copy_source = False
html_show_sphinx = False
# A theme's fonts are the reader's own; nothing on a page comes from elsewhere, so that it can be read offline.
html_theme_options = {"top_of_page_buttons": []}

myst_heading_anchors = 4
smartquotes = False
highlight_language = "none"
# A block may leave a value out with `…`.
suppress_warnings = ["misc.highlighting_failure"]

autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
autodoc_class_signature = "mixed"
# Docstrings put names between single backticks.
default_role = "literal"
