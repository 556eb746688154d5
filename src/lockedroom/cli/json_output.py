"""How every command prints JSON."""

from __future__ import annotations


def print_json(value: object) -> None:
    """Print as indented ASCII: whatever a policy wrote, a terminal obeys nothing of it."""
    import json

    import msgspec

    from lockedroom.visible import ascii_json

    # The standard library writes a lone surrogate as its escape, which msgspec refuses.
    print(ascii_json(json.dumps(msgspec.to_builtins(value), indent=2).encode()))
