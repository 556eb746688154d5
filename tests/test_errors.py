"""The error tree and its exit codes."""

from __future__ import annotations

import inspect

import pytest

from lockedroom import errors
from lockedroom.errors import BadInput, CannotWrite, LockedroomError, MissingExtra, NotComparable, Sealed, Tampered


@pytest.mark.parametrize(
    ("error", "code"),
    [(BadInput, 2), (MissingExtra, 2), (CannotWrite, 2), (NotComparable, 3), (Tampered, 4), (Sealed, 5)],
)
def test_each_error_has_the_exit_code_that_the_documentation_gives(error: type[LockedroomError], code: int) -> None:
    assert error.exit_code == code


def test_the_tree_in_the_docstring_is_the_tree_of_classes() -> None:
    assert errors.__doc__ is not None
    drawn = [line for line in errors.__doc__.splitlines() if "exit " in line and "──" in line]
    found: dict[str, str] = {}
    parents = {0: "LockedroomError"}
    for line in drawn:
        depth = line.index("──") // 4
        name = line.split("──")[1].split()[0]
        found[name] = parents[depth - 1]
        parents[depth] = name
    classes = {
        name: value.__mro__[1].__name__
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, LockedroomError) and value is not LockedroomError
    }
    assert found == classes


def test_a_missing_extra_says_how_to_install_it() -> None:
    assert "pip install 'lockedroom[learn]'" in str(MissingExtra("the policy", "learn"))
