#!/usr/bin/env python3
"""Scores answers as the validator does it in Python: the peer of the scoring benchmark.

usage: score.py SET ANSWERS [--embeddings TABLE]

SET      an example set (JSON Lines, with or without its header line)
ANSWERS  one {"id", "score", "mistakes"} per line; an id may come more than once
TABLE    one [text, vector] per line, for the relevance reward. Without it every text has the same vector, so that
         relevance is 0 everywhere; the side that is compared must then do the same.

Prints one line of JSON: count, seconds (scoring alone, without imports and reading), total (the sum of the rewards in
order, 64-bit), aborted (answers on which the validator raises; they add nothing).

Needs Python 3.11 with rouge 1.0.1 and numpy 2.0.2 (tests/python/requirements-pipeline.txt).
"""

import argparse
import json
import sys
import time

import numpy as np
from rouge import Rouge

MATCH = 0.85
STEPS = [(0.0, 0.1), (0.1, 0.2), (0.2, 0.4), (0.4, 1.0001)]
CLAIM_TASK = (
    [("float_diff", 0.6), ("exact_match", 0.4)],
    [("dist_penalty", 0.35), ("exact_match", 0.5)],
)
TASKS = {
    "relevancy": ([("ordinal", 1.0)], []),
    "hallucination": CLAIM_TASK,
    "attribution": CLAIM_TASK,
    "summary_completeness": (
        [("float_diff", 0.6), ("rouge", 0.2), ("relevance", 0.2)],
        [("dist_penalty", 0.35), ("rouge", 0.125), ("relevance", 0.125)],
    ),
}


class Scorer:
    def __init__(self, table):
        self.package = Rouge()
        self.table = table

    def total(self, example, answer):
        """The reward of one answer; raises where the validator raises."""
        rewards, penalties = TASKS[example["task"]]
        total = np.float32(0.0)
        earned = [(weight, self.value(name, example, "reference_mistakes", answer)) for name, weight in rewards]
        lost = [(weight, self.value(name, example, "reference_true_values", answer)) for name, weight in penalties]
        for weight, value in earned:
            total = total + np.float32(weight) * value
        for weight, value in lost:
            total = total * (np.float32(1.0) - np.float32(weight) * value)
        return total

    def value(self, name, example, claims, answer):
        if name in ("ordinal", "float_diff", "dist_penalty"):
            return np.float32(getattr(self, name)(example["reference"], answer["score"]))
        return np.float32(getattr(self, name)(example.get(claims, []), answer["mistakes"]))

    @staticmethod
    def ordinal(reference, score):
        if score not in (0.0, 1.0):
            return 0.0
        if reference not in (0.0, 1.0):
            raise ValueError("a reference other than 0 and 1")
        return float(score == reference)

    @staticmethod
    def float_diff(reference, score):
        if score is None or score < 0 or score > 1:
            return 0.0
        distance = abs(reference - score)
        return 0.0 if distance > 0.999 else 1.0 - distance

    @staticmethod
    def dist_penalty(reference, score):
        if score < 0 or score > 1:
            return 1.0
        distance = abs(reference - score)
        found = [place for place, (low, high) in enumerate(STEPS) if low <= distance < high]
        return found[0] / 3 if found else 1.0

    def resemblance(self, reference, given):
        """Direction as the validator has it: its own text is the package's hypothesis."""
        if not reference or not given:
            return 0.0
        return self.package.get_scores(reference, given)[0]["rouge-l"]["f"]

    def exact_match(self, reference, given):
        if given == reference:
            return 1.0
        if not reference:
            return 0.0
        # A list, not a generator: the validator compares all pairs, so that a later one may still raise.
        found = [any([self.resemblance(claim, other) >= MATCH for other in given]) for claim in reference]
        return sum(found) / len(found)

    def rouge(self, reference, given):
        return 1.0 if given == reference else self.resemblance("\n".join(reference), "\n".join(given))

    def relevance(self, reference, given):
        expected, answered, nothing = (self.vector(text) for text in ("\n".join(reference), "\n".join(given), ""))
        return np.clip(cosine(expected, answered) - cosine(expected, nothing), 0, 1)

    def vector(self, text):
        return np.ones(1, np.float32) if self.table is None else self.table[text]


def cosine(a, b):
    least = np.float32(1e-8)
    return np.dot(a / max(np.linalg.norm(a), least), b / max(np.linalg.norm(b), least))


def lines(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set")
    parser.add_argument("answers")
    parser.add_argument("--embeddings")
    args = parser.parse_args()
    examples = {line["id"]: line for line in lines(args.set) if "deval_examples" not in line}
    answers = lines(args.answers)
    unknown = sorted({answer["id"] for answer in answers} - examples.keys())
    if unknown:
        sys.exit(f"{args.answers}: no example has the id {unknown[0]}")
    table = args.embeddings and {text: np.array(vector, np.float32) for text, vector in lines(args.embeddings)}
    scorer, total, aborted = Scorer(table), 0.0, 0
    started = time.perf_counter()
    for answer in answers:
        try:
            total += float(scorer.total(examples[answer["id"]], answer))
        except (TypeError, ValueError, RecursionError):
            aborted += 1
    seconds = time.perf_counter() - started
    print(json.dumps({"count": len(answers), "seconds": seconds, "total": total, "aborted": aborted}))


if __name__ == "__main__":
    main()
