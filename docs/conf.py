"""Sphinx configuration; `make docs` builds the pages. Nothing here or in the pages needs the
network.
"""

import sys
from collections.abc import Iterator
from dataclasses import is_dataclass
from pathlib import Path

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

sys.path.insert(0, str(Path(__file__).resolve().parent))
import api_names

import poyo_jax

project, author, copyright = "poyo_jax", "The poyo_jax authors", "The poyo_jax authors"
version = release = poyo_jax.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_build"]
default_role = (
    "literal"  # single backticks in docstrings; LinkNames makes links of those that it can
)
myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_default_options = {"members": True, "undoc-members": True, "member-order": "bysource"}
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autodoc_use_type_comments = False
napoleon_use_rtype = False
maximum_signature_line_length = 88
python_use_unqualified_type_names = True
add_module_names = False
toc_object_entries_show_parents = "hide"
# Names of this package must resolve; those of others are shown as they are, since looking them up
# takes a network.
nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", r"(?!poyo_jax\.).*"),
    # what only the package itself handles
    (
        "py:class",
        r".*\.(Backbone|ChunkedArray|Compute|FitHistory|FitSetup|Fluctuations|Metadata"
        r"|Made|ModelSession|Movement|Neurons|Node|Question|Samples|SearchResult|Stage)",
    ),
]

highlight_language = "bash"  # of indented blocks
html_context = {"default_mode": "auto"}
html_theme = "pydata_sphinx_theme"
html_title = "poyo_jax"
html_static_path = ["_static"]
html_css_files = ["style.css"]
html_copy_source = html_show_sourcelink = False
html_math_renderer = "mathml"
html_theme_options = {
    "logo": {"text": "poyo_jax"},
    "navbar_align": "left",
    "navbar_persistent": ["search-button"],
    "header_links_before_dropdown": 6,
    "pygments_light_style": "github-light",
    "pygments_dark_style": "github-dark",
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "show_prev_next": True,
}


def inline_formula(writer, node: nodes.math) -> None:
    writer.body.append(tex2mathml(node.astext()))
    raise nodes.SkipNode


def formula(writer, node: nodes.math_block) -> None:
    writer.body.append(f'<div class="formula">{tex2mathml(node.astext(), as_block=True)}</div>')
    raise nodes.SkipNode


class LinkNames(SphinxPostTransform):
    """Code in the text that names something on the API pages becomes a link to it."""

    default_priority = 5  # before references are resolved

    def run(self, **_) -> None:
        for literal in list(self.document.findall(nodes.literal)):
            around = list(ancestors(literal))
            linked = any(isinstance(node, nodes.reference | nodes.title) for node in around)
            signatures = [
                node.next_node(addnodes.desc_signature)
                for node in around
                if isinstance(node, addnodes.desc)
            ]
            inside = next(
                (name for signature in signatures if signature for name in signature["ids"]), ""
            )
            if not linked and (name := api_names.meant(literal.astext(), inside)):
                link = addnodes.pending_xref(
                    refdomain="py",
                    reftype="obj",
                    reftarget=name,
                    refdoc=self.env.docname,
                    refexplicit=True,
                )
                literal.replace_self(link)
                link += literal


def ancestors(node: nodes.Node) -> Iterator[nodes.Node]:
    while node.parent is not None:
        node = node.parent
        yield node


def without_fields(app: Sphinx, what: str, name: str, obj: object, *_) -> tuple[str, None] | None:
    """Fields of a class are listed under it, with what they mean; its signature would say them
    twice.
    """
    return (
        ("", None) if what == "class" and (is_dataclass(obj) or hasattr(obj, "_fields")) else None
    )


def without_type(
    app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """What stands before a colon in the first line about an attribute is no type, for which
    napoleon takes it.
    """
    if what in ("attribute", "property"):
        lines.insert(0, "")


def setup(app: Sphinx) -> None:
    app.connect("autodoc-process-docstring", without_type, priority=400)  # before napoleon
    app.connect("autodoc-process-signature", without_fields)
    app.add_post_transform(LinkNames)
    app.add_html_math_renderer("mathml", (inline_formula, None), (formula, None))
