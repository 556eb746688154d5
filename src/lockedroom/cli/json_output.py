"""How every command prints JSON."""

from __future__ import annotations


def print_json(value: object) -> None:
    """Print as indented ASCII: whatever a policy wrote, a terminal obeys nothing of it. NaN is null."""
    import json

    import msgspec

    from lockedroom.visible import ascii_json

    try:
        encoded = msgspec.json.format(msgspec.json.encode(value), indent=2)
    except UnicodeEncodeError:  # a lone surrogate, which the standard library writes as its escape
        encoded = json.dumps(msgspec.to_builtins(value), indent=2).encode()
    print(ascii_json(encoded))
