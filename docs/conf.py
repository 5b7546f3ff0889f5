"""The documentation as a site: ``make docs``. Nothing is downloaded, and a warning is an error."""

import html
import io
import logging
import os
import re
import sys
from pathlib import Path

from docutils import nodes
from matplotlib import rc_context
from matplotlib.font_manager import FontProperties
from matplotlib.mathtext import math_to_image

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / 'docs'
sys.path[:0] = [str(ROOT), str(DOCS)]

import fields  # noqa: E402

import r2kd_mm  # noqa: E402  autodoc imports it, and its compat module has to come first
from r2kd_mm.lazy import import_all  # noqa: E402

for package in ('datasets', 'distillers', 'engine', 'export', 'pruning', 'teachers'):
    # autodoc sees what has been imported
    import_all(f'r2kd_mm.{package}')

project = 'r2kd_mm'
version = release = r2kd_mm.__version__

extensions = ['myst_parser', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon']
exclude_patterns = ['_build']
html_theme = 'furo'
html_math_renderer = 'mathtext'
html_title = f'r2kd_mm {release}'
html_copy_source = html_show_copyright = False
html_static_path = ['_static']
html_css_files = ['site.css']
html_theme_options = dict(
    light_css_variables={'picture-filter': 'none'},
    dark_css_variables={'picture-filter': 'invert(0.92) hue-rotate(180deg)'},
)

myst_heading_anchors = 3  # links to a heading as on a code host: page.md#the-heading

autodoc_default_options = {'members': True}
autodoc_inherit_docstrings = False  # those of other packages have references of their own
autodoc_member_order = 'bysource'
add_module_names = False
napoleon_use_ivar = True  # next to the attributes that autodoc finds, not a second time

nitpicky = True
nitpick_ignore_regex = [
    # what others document; to resolve it, their inventories would have to be downloaded
    (
        'py:.*',
        r'(argparse|collections|contextlib|inspect|matplotlib|mm\w+|nn|np|numpy|os|pathlib|pickle|re|torch|types|typing)\..*',
    ),
    ('py:data', r'(.*\.)?[A-Z_]+'),  # constants are named in the text, their values are in the source
    ('py:class', r'Config|Path|Predict|Runner|Tensor'),  # imported for type checkers alone, or in a type alias
    ('py:class', r'r2kd_mm\..*\.(CalibrationBins|Logits|Measurement|Series|Trial)'),  # explained in the text
]

# pages of the site that are files of the repository; on a code host, such a page is a link to its file
FILES = {'overview': 'README.md', 'changelog': 'CHANGELOG.md', 'contributing': 'CONTRIBUTING.md'}
PAGES = {file: f'{page}.md' for page, file in FILES.items()}
LINK = re.compile(r'(!?)\[([^]]+)]\((?!https?:)([^)#\s]+)(#[^)\s]*)?\)')


def link_repository_files(app, docname: str, source: list[str]) -> None:
    """Give a page of ``FILES`` its text, and let a link out of ``docs`` lead to such a page, or to the file."""

    def from_docs(match: re.Match) -> str:
        bang, text, path, anchor = match.groups()
        path = path.removeprefix('docs/') if path.startswith('docs/') else f'../{path}'
        return f'{bang}[{text}]({path}{anchor or ""})'

    folder = (DOCS / docname).parent

    def link(match: re.Match) -> str:
        bang, text, path, anchor = match.groups()
        file = Path(os.path.normpath(folder / path))
        if bang or file.is_relative_to(DOCS) or not file.is_relative_to(ROOT):
            return match.group()
        page = PAGES.get(file.relative_to(ROOT).as_posix())
        if page:
            return f'[{text}]({os.path.relpath(DOCS / page, folder)}{anchor or ""})'
        return f'{{download}}`{text.replace("`", "")} <{path}>`'

    if docname in FILES:
        text = (ROOT / FILES[docname]).read_text(encoding='utf-8')
        source[0] = LINK.sub(from_docs, text.replace('# r2kd_mm\n', '# Overview\n', 1))
    source[0] = fields.fill(LINK.sub(link, source[0]))


def resolve_where_it_is_documented(app, env, node, contnode):
    """Resolve ``dist`` and ``r2kd_mm.losses.dist.dist``, which is where it is defined, to ``r2kd_mm.losses.dist``."""
    if node.get('refdomain') != 'py':
        return None
    domain, target = env.get_domain('py'), node['reftarget']
    part = '.'.join(target.split('.')[:2]) if target.startswith('r2kd_mm.') else 'r2kd_mm'
    name = target.rpartition('.')[2] if target.startswith('r2kd_mm.') else target
    names = [full for full in domain.objects if full.startswith(f'{part}.') and full.endswith(f'.{name}')]
    if len(names) != 1:
        return None
    return domain.resolve_xref(env, node['refdoc'], app.builder, node['reftype'], names[0], node, contnode)


# what TeX knows and matplotlib does not
TEX = ((r'\\tfrac', r'\\frac'), (r'frac(\w)(\w)', r'frac{\1}{\2}'), (r'\\Big\b', ''))


def draw_formula(tex: str) -> str:
    """A formula as an SVG element, in the colour of the text around it; MathJax would have to be downloaded."""
    for pattern, replacement in TEX:
        tex = re.sub(pattern, replacement, tex)
    file = io.BytesIO()
    with rc_context({'savefig.facecolor': 'none'}):
        depth = math_to_image(f'${" ".join(tex.split())}$', file, FontProperties(size=13), dpi=72, format='svg')
    svg = file.getvalue().decode()
    svg = svg[svg.index('<svg') :].replace('#000000', 'currentColor')
    style = f'vertical-align: {-depth:.1f}pt; fill: currentColor; overflow: visible; max-width: 100%; height: auto'
    return svg.replace('<svg', f'<svg style="{style}" role="img" aria-label="{html.escape(tex)}"', 1)


def visit_inline_formula(translator, node) -> None:
    translator.body.append(draw_formula(node.astext()))
    raise nodes.SkipNode


def visit_formula(translator, node) -> None:
    formula = draw_formula(node.astext().replace(r'\frac', r'\dfrac'))
    translator.body.append(f'<div class="math" style="margin: 1em; text-align: center">{formula}</div>')
    raise nodes.SkipNode


def setup(app) -> None:
    """Called by Sphinx."""
    logging.getLogger('matplotlib').setLevel(logging.WARNING)  # it tells of each letter that it finds in another font
    app.add_html_math_renderer('mathtext', (visit_inline_formula, None), (visit_formula, None))
    app.connect('source-read', link_repository_files)
    app.connect('missing-reference', resolve_where_it_is_documented)
