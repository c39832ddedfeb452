"""What a pipeline asks its model: the reference of the native backend's prompts.

usage: asked.py REQUEST RESULT

REQUEST  JSON: {"folder": pipeline folder, "model": model folder, "questions": [{"task", "rag_context", "query", "llm_response"}]}
RESULT   [[[token id]]]: for each question the prompts that `generate` was called with, in order. The model answers nothing.
"""

import importlib
import json
import sys
from pathlib import Path

import torch


def main():
    request = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    folder = Path(request["folder"])
    sys.path.insert(0, str(folder.parent))
    pipeline = importlib.import_module(f"{folder.name}.pipeline").DeValPipeline("de_val", model_dir=request["model"])
    asked = []

    def generate(*ids, **options):
        ids = ids[0] if ids else options["input_ids"]
        asked.append(ids[0].tolist())
        return torch.cat([ids, torch.full((1, 1), pipeline.tokenizer.eos_token_id)], dim=1)

    pipeline.model.generate = generate
    result = []
    for question in request["questions"]:
        asked.clear()
        pipeline("", tasks=[question.pop("task")], **question)
        result.append(list(asked))
    Path(sys.argv[2]).write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main()
