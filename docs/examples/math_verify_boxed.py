"""math-verify (https://github.com/huggingface/Math-Verify) as its README calls it; needs `pip install math-verify`."""

from math_verify import parse, verify


def score(completion, answer):
    return float(verify(parse(f"${answer}$"), parse(completion)))
