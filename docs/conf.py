"""The docs site, built offline by Sphinx from the pages as they stand: `make docs`."""

from lockedroom import __version__

project = "lockedroom"
copyright = "2026, the lockedroom authors"  # noqa: A001  (the name that Sphinx reads)
release = __version__
extensions = ["myst_parser"]
html_theme = "furo"
html_title = f"lockedroom {release}"
html_static_path: list[str] = []
exclude_patterns = ["_site"]
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]
myst_url_schemes = {"http": None, "https": None, "mailto": None}
nitpicky = True
suppress_warnings = [
    "myst.xref_missing",
    "myst.header",
]  # links to files of the repository stay as they are on the page
