"""Asks a pipeline as the validator's container does: prove.py ROOT OUT NAME=MODEL_DIR…

ROOT is the repository. OUT becomes a JSON object: for each model the list of what was answered, one text for each request.
"""

import json
import random
import re
import sys
import traceback

IMPORT_RAISED = 90
"""Exit code when importing the pipeline raises. A missing package is another matter: the machine may lack what a validator has."""

PLAIN = {
    "rag_context": "The Danube rises in the Black Forest and flows through ten countries. It is 2,850 km long.",
    "query": "How long is the Danube?",
    "llm_response": "The Danube is 2,850 km long. It rises in the Alps. It flows through ten countries.",
}
EMPTY = {"rag_context": "", "query": "", "llm_response": "The bridge was opened in 1894."}
ODD = {
    "rag_context": '{"rag_context": "{llm_response}"} {0} %s \\n\n\n\n 🐍🇩🇪 naïve Ω ﷽\u202e',
    "query": "{query} {} <|eot_id|>",
    "llm_response": "Response: 0.3\n- {rag_context}!! 🎉... e.g. 3.14%  done\ttoo\u00a0",
}
TASKS = ("relevancy", "hallucination", "attribution", "summary_completeness")
REQUESTS = [{"tasks": [task], **fields} for task in TASKS for fields in (PLAIN, EMPTY, ODD)]


def seed():
    """Starts all chance anew, in as far as the pipeline has loaded what throws the dice."""
    random.seed(0)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


def ask(pipe, request, root):
    seed()
    try:
        return "answered " + told(pipe("", **request), root)
    except Exception as error:
        return "raised " + told(f"{type(error).__name__}: {error}", root)


def told(value, root):
    """The value as text, without what differs between two processes."""
    return re.sub(r" at 0x[0-9a-f]+", "", str(value) if isinstance(value, str) else repr(value)).replace(root, "ROOT")


def main(root, out, *models):
    # Appended, as upstream does: an installed package of the same name wins here as it does there.
    sys.path.append(root)
    try:
        from model.pipeline import DeValPipeline
    except ImportError:
        raise
    except Exception:
        traceback.print_exc()
        sys.exit(IMPORT_RAISED)

    answers = {}
    for name, _, model_dir in (model.partition("=") for model in models):
        seed()
        pipe = DeValPipeline("de_val", model_dir=model_dir)
        answers[name] = [ask(pipe, request, root) for request in REQUESTS]
    with open(out, "w") as file:
        json.dump(answers, file)


main(*sys.argv[1:])
