"""How likely the shipped pipeline's model finds texts: the reference of the native backend's likelihoods.

usage: likelihoods.py REQUEST RESULT

REQUEST  JSON: {"folder": pipeline folder, "model": model folder, "readings": [{"prefix", "texts"}]}
RESULT   [[nats a token]]: for each reading the mean log-probability of each text behind the prefix
"""

import importlib
import json
import sys
from pathlib import Path


def main():
    request = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    folder = Path(request["folder"])
    sys.path.insert(0, str(folder.parent))
    pipeline = importlib.import_module(f"{folder.name}.pipeline").DeValPipeline("de_val", model_dir=request["model"])
    language_model = importlib.import_module(f"{folder.name}.lm").LanguageModel
    model = language_model(pipeline.model, pipeline.tokenizer, pipeline.settings)
    result = []
    for reading in request["readings"]:
        prefix = model.plain("{text}", {"text": reading["prefix"]})
        result.append([model.mean_log_prob(prefix, text) for text in reading["texts"]])
    Path(sys.argv[2]).write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main()
