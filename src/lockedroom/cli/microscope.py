"""What the commands of the microscope share: lists of numbers, and what has to be there before anything is spent."""

from __future__ import annotations

from pathlib import Path

from lockedroom.errors import BadInput, MissingExtra


def numbers(name: str, text: str) -> tuple[float, ...]:
    """Return the numbers of a list with commas. Raises BadInput."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise BadInput(f"{name} {text!r}: expected numbers with commas between them") from None


def whole_numbers(name: str, text: str) -> tuple[int, ...]:
    """Return the whole numbers of a list with commas. Raises BadInput."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise BadInput(f"{name} {text!r}: expected whole numbers with commas between them") from None


def require_torch(what: str) -> None:
    """Raise MissingExtra where PyTorch is not installed."""
    try:
        import torch
    except ModuleNotFoundError:
        raise MissingExtra(what, "learn") from None
    torch.set_num_threads(1)


def check_plot(path: Path) -> None:
    """Raise before anything is spent where the figure could not be drawn: its format, its folder, matplotlib."""
    from lockedroom.report.plots import FORMATS, require_matplotlib

    if path.suffix.removeprefix(".") not in FORMATS:
        raise BadInput(f"--plot {path}: give a file name that ends in {' or '.join(f'.{one}' for one in FORMATS)}")
    if not path.parent.is_dir():
        raise BadInput(f"--plot {path}: there is no folder {path.parent}; make it, or choose another")
    require_matplotlib()
