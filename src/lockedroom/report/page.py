"""One self-contained HTML page from blocks: no network, a strict Content-Security-Policy, everything escaped.

The template, the style and the script stand in `page_files`, once; Chart.js (MIT) is inlined from there too. Foreign text
reaches the page escaped by the template, or as JSON that the script only ever sets as text.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import itertools
from pathlib import Path

import msgspec

from lockedroom._version import __version__
from lockedroom.errors import BadInput, MissingExtra
from lockedroom.report.blocks import Chart, Page, Records
from lockedroom.results.run_folder import write_atomically

FILES = Path(__file__).parent / "page_files"
GENERATOR = b'<meta name="generator" content="lockedroom report">'


def require_jinja() -> None:
    """Raise MissingExtra without jinja2."""
    if importlib.util.find_spec("jinja2") is None:
        raise MissingExtra("the HTML report", "report")


def render_page(page: Page) -> bytes:
    """Return the page as HTML. Raises MissingExtra without jinja2."""
    require_jinja()
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    texts = {name: (FILES / name).read_text("utf-8") for name in ("page.css", "page.js", "chart.umd.min.js")}
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    numbers = {"chart_number": itertools.count(), "records_number": itertools.count()}
    html = environment.from_string((FILES / "page.html.j2").read_text("utf-8")).render(
        page=page,
        version=__version__,
        policy=_security_policy(texts),
        css=Markup(texts["page.css"]),
        js=Markup(texts["page.js"]),
        chart_js=Markup(texts["chart.umd.min.js"]),
        data=Markup(_inert_json(page)),
        **{name: lambda counter=counter: next(counter) for name, counter in numbers.items()},
    )
    return html.encode("utf-8", "backslashreplace")


def write_page(page: Page, path: Path) -> None:
    """Write the page to a file; one of its own kind is replaced. Raises BadInput where another file is."""
    if path.exists() and (not path.is_file() or GENERATOR not in path.read_bytes()[:4000]):
        raise BadInput(f"{path}: something that is no report of lockedroom is here; choose another --out")
    if not path.parent.is_dir():
        raise BadInput(f"{path.parent}: no such folder; make it, or choose another --out")
    write_atomically(path, render_page(page))


def _security_policy(texts: dict[str, str]) -> str:
    """Only these very scripts and this style may run; nothing may be loaded, framed from here, or sent anywhere."""

    def hashed(name: str) -> str:
        return "'sha256-" + base64.b64encode(hashlib.sha256(texts[name].encode()).digest()).decode() + "'"

    return (
        f"default-src 'none'; script-src {hashed('chart.umd.min.js')} {hashed('page.js')}; "
        f"style-src {hashed('page.css')}; base-uri 'none'; form-action 'none'"
    )


def _inert_json(page: Page) -> str:
    """The charts and records in the order of the template, as JSON without a sign that HTML or a script could obey."""
    charts: list[Chart] = [chart for section in page.sections for chart in section.charts]
    records: list[Records] = [section.records for section in page.sections if section.records is not None]
    text = msgspec.json.encode({"charts": charts, "records": records}).decode()
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text
