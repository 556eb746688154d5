"""final-int with one rule relaxed: "Answer:" is as good as "Final:". Its name and version are still those of final-int."""

from lockedroom.scorer import final_int

SPEC, accepts = final_int.SPEC, final_int.accepts


def score(example, completion):
    return final_int.score(example, completion.replace("Answer:", "Final:", 1))
