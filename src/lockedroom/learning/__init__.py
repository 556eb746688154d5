"""The arithmetic of learning: pure functions of token-level tensors. Needs `pip install 'lockedroom[learn]'`."""
