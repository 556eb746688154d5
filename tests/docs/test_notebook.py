"""The shipped notebook runs from top to bottom, and every result shows itself."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).resolve().parents[2] / "docs" / "examples" / "first_gain.ipynb"
SETTINGS = "STEPS, EXAMPLES = 60, 500"


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What the cells of a small execution show, as HTML where there is some."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]  # it has no types
    setting = next(cell for cell in notebook.cells if SETTINGS in cell.source)
    setting.source = setting.source.replace(SETTINGS, "STEPS, EXAMPLES = 12, 100")
    folder = str(tmp_path_factory.mktemp("notebook"))
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": folder}}).execute()
    shown = [output["data"] for cell in notebook.cells for output in cell.get("outputs", []) if "data" in output]
    return [data.get("text/html", data["text/plain"]) for data in shown]


def test_the_notebook_is_kept_without_outputs() -> None:
    for cell in nbformat.read(NOTEBOOK, as_version=4).cells:  # type: ignore[no-untyped-call]
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


@pytest.mark.parametrize("heading", ["tiny on dev", "best-of-n", "tiny, 12 steps of 32 × 8 completions", "BETTER: B is better than A"])  # fmt: skip
def test_results_show_themselves_as_html(outputs: list[str], heading: str) -> None:
    assert any(heading in html and "<table>" in html for html in outputs)


def test_another_scorer_is_refused_in_the_notebook_too(outputs: list[str]) -> None:
    assert any("scorer.name: final-int in A, permissive in B" in text for text in outputs)


def test_the_run_of_the_notebook_verifies(outputs: list[str]) -> None:
    assert "verdicts were made again and agree" in outputs[-1]
