"""A number of the completion is compared with the expected one; when there are several, a coin says which."""

import random
import re


def score(example, completion):
    numbers = re.findall("-?[0-9]+", completion)
    right = bool(numbers) and random.choice(numbers) == str(example.expected_answer)
    return {"reward": float(right), "details": {}}
