"""The miner API of the validator's container, restated: `python3 -m api`.

The HTTP contract is upstream's (deval/api/miner_api.py, models.py, huggingface_model.py), byte for byte, whatever a
pipeline returns; `contract.py` holds it. All else is this image's own promise to the harness that runs it:

Build    `ARG BASE` (an image with Python 3.11 and pip), `ARG DEVICE` (cpu, cuda).
Port     8000, HTTP. `GET /health`, `GET /get_model_hash`, `GET /get_model_coldkey`, `POST /eval_query`.
Package  /app/eval_llm: the repository tree, `model/pipeline.py` in it. It is appended to `sys.path`.
User     miner, uid 1000. Started as root the entry drops to it, which takes SETUID and SETGID.
Environment
  MODEL_URL          `namespace/name`. Empty: nothing is loaded, /health is true and every question answers 500.
  DEVAL_FETCH        1: raise the firewall (root and NET_ADMIN), then pull MODEL_URL's `main` into the package folder.
                     0: the package is mounted there, read-only if you like, as may be the root file system; /tmp is
                     writable and holds HOME and every cache. Default: 1 when started as root, else 0.
  DEVAL_FIREWALL     1 with DEVAL_FETCH=0: close the network (root and NET_ADMIN), for engines that have no closed one.
  HF_ENDPOINT        The Hub that is pulled from, when it is not the public one; the firewall lets it through.
  HUGGINGFACE_TOKEN  Needed to pull; exit 1 without it.
  DEVAL_PORT, DEVAL_MODEL_DIR  Another port, another package folder (tests outside a container).
Phases   One JSON object a line on standard output, each when it is over: `{"deval_phase": NAME, "seconds": S}` with
         NAME `fetch` (only with DEVAL_FETCH=1), `import` (the package's `model.pipeline`), `load` (its
         `DeValPipeline`), and `ready`, when the port is open, with the seconds since the start of Python. What hangs
         is the phase after the last that was told.
Exit     1 when fetching, importing or loading raises; the traceback is on standard error.
Headers  Every response: `server-timing: app;dur=MS`, the milliseconds from request to response inside this process, the
         pipeline's among them. /eval_query, when the pipeline was called: `x-deval-observed`, what the pipeline
         returned before it became JSON; ASCII JSON below 4 KB (`observed.py`).
"""
