"""Configure the site: `sphinx-build notebooks build/site` makes it, without a network."""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.utils.math import latex2mathml
from sphinx.application import Sphinx

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

import registry_pages  # noqa: E402  (found by the line above)

project = "diffuse"
author = copyright = "the diffuse contributors"
extensions = ["myst_nb", "numpydoc", "sphinx.ext.autodoc", "sphinx.ext.autosummary"]
exclude_patterns = ["_static", "_templates", "pictures", "**.ipynb_checkpoints"]
templates_path = ["_templates"]
nitpicky = True

# ---- pages: Markdown, and notebooks as they are kept

myst_enable_extensions = ["dollarmath", "deflist", "colon_fence"]
myst_heading_anchors = 3
# tests/test_notebooks.py runs every notebook, so that a build need not: it takes seconds instead of minutes.
# `-D nb_execution_mode=cache` runs them and shows what they draw; so a site that is published is built.
nb_execution_mode = "off"
nb_execution_timeout = 300
nb_execution_raise_on_error = True

# ---- API: docstrings are plain text with sections of numpydoc

default_role = "code"
smartquotes = False
autodoc_typehints = "none"
autosummary_generate = True
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False

# ---- looks: nothing is loaded from elsewhere

html_theme = "furo"
html_title = "diffuse"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = html_show_sourcelink = html_show_sphinx = html_show_copyright = False
html_math_renderer = "mathml"

_LITERAL = re.compile(r"(`[^`]+`)")


def plain_docstring(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Take what stands outside backticks as plain text: |∇u| is no substitution, lambda_ no link, *args no emphasis."""
    for i, line in enumerate(lines):
        if not line.lstrip().startswith((">>>", "...")):
            lines[i] = "".join(
                part
                if part.startswith("`") and len(part) > 1
                else re.sub(r"([|*\\]|_(?=\W|$))", r"\\\1", part)
                for part in _LITERAL.split(line)
            )


def foreign(app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """Leave out members that are objects of another library, such as a NumPy function that a class keeps."""
    ours = inspect.isroutine(obj) or isinstance(obj, type) or not callable(obj)
    return None if ours else True


def write_inline_math(translator: Any, node: nodes.math) -> None:
    """Write a formula as MathML, which browsers draw themselves."""
    translator.body.append(latex2mathml.tex2mathml(node.astext()))
    raise nodes.SkipNode


def write_display_math(translator: Any, node: nodes.math_block) -> None:
    """Write a formula on lines of its own."""
    translator.body.append(f"<div>{latex2mathml.tex2mathml(node.astext(), as_block=True)}</div>\n")
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    """Write the pages that come from the registries, and hook in what is ours."""
    registry_pages.write(HERE)
    app.add_html_math_renderer("mathml", (write_inline_math, None), (write_display_math, None))
    app.connect("autodoc-skip-member", foreign)
    # Before numpydoc, which adds markup of its own.
    app.connect("autodoc-process-docstring", plain_docstring, priority=100)
