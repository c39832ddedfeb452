"""The miner API (`pipeline/api`) in a process of its own, asked over HTTP as a validator does."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from api_contract import ERROR_500, ROWS, SCRIPTED, Reply, Row, agrees, ask, question, returned, seen, waiting

from api.contract import coldkey, model_hash

REPOSITORY = Path(__file__).parents[2]
VECTORS = REPOSITORY / "tests/fixtures/scoring"
UPSTREAM_LOCK = {
    "accelerate": "1.2.1",
    "bitsandbytes": "0.42.0",
    "fastapi": "0.115.6",
    "huggingface-hub": "0.27.1",
    "numpy": "2.2.1",
    "peft": "0.14.0",
    "pyarmor": "8.5.11",
    "pyarmor.cli.core": "6.5.3",
    "pydantic": "2.10.4",
    "python-dotenv": "1.0.1",
    "safetensors": "0.5.0",
    "starlette": "0.41.3",
    "tokenizers": "0.21.0",
    "torch": "2.4.1",
    "transformers": "4.47.1",
    "triton": "3.0.0",
    "uvicorn": "0.30.6",
}
"""Of deval/api/poetry.lock."""


class Server:
    """`python3 -m api` over a package folder."""

    def __init__(self, work: Path, package: Path, **environment: str) -> None:
        # The API alone: beside it in the repository lies `model`, which would be found before the package's.
        (work / "api").symlink_to(REPOSITORY / "pipeline/api")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.base_url = f"http://127.0.0.1:{port}"
        settings = {"MODEL_URL": "demo/scripted", "DEVAL_PORT": str(port), "DEVAL_MODEL_DIR": str(package)}
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGINGFACE"))}
        self.process = subprocess.Popen(
            [sys.executable, "-B", "-m", "api"],
            cwd=work,
            env={**inherited, **settings, "HF_HOME": str(work / "hub"), **environment},
            stdout=subprocess.PIPE,
            stderr=(work / "stderr").open("wb"),
            text=True,
        )
        self._errors = work / "stderr"

    def phases(self) -> list[str]:
        """Names of the phases, once the port is open or the process has ended."""
        names = []
        for line in self.process.stdout or ():
            names.append(json.loads(line)["deval_phase"])
            if names[-1] == "ready":
                break
        return names

    def failed(self) -> tuple[int, str]:
        """Exit code and standard error of a server that ends by itself."""
        return self.process.wait(timeout=120), self._errors.read_text()

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Any]:
    servers = []

    def start(package: Path, **environment: str) -> Server:
        work = tmp_path / f"server{len(servers)}"
        work.mkdir()
        servers.append(Server(work, package, **environment))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture(scope="module")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("scripted"), SCRIPTED)
    assert server.phases() == ["import", "load", "ready"], server.failed()
    yield server
    server.stop()


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package whose pipeline answers, without weights and coldkey."""
    (tmp_path / "package/model").mkdir(parents=True)
    (tmp_path / "package/model/pipeline.py").write_text((SCRIPTED / "model/pipeline.py").read_text())
    return tmp_path / "package"


def vectors(kind: str) -> list[Any]:
    """What upstream's code answered, by case."""
    lines = (VECTORS / f"{kind}.jsonl").read_text().splitlines()
    return [pytest.param(case["input"], case["expected"], id=case["case"]) for case in map(json.loads, lines)]


def observed(reply: Reply) -> dict[str, Any]:
    return json.loads(reply.headers["x-deval-observed"])


def pins(path: str) -> dict[str, str]:
    """Package and version of each line of a lock."""
    lines = (REPOSITORY / path).read_text().splitlines()
    pinned = [line.split(";")[0].strip().split("==") for line in lines if line and not line.startswith("#")]
    return {re.sub("[-_]", "-", name).lower(): version for name, version in pinned}


def test_the_image_has_the_packages_of_the_validator_and_the_tests_run_on_them() -> None:
    image, tests = pins("pipeline/requirements.lock"), pins("tests/python/requirements-pipeline.txt")
    assert UPSTREAM_LOCK.items() <= image.items()
    # The numpy of the tests is that of the validator itself, which the scoring benchmark stands beside.
    shared = (tests.keys() & image.keys()) - {"numpy"}
    assert {name: tests[name] for name in shared} == {name: image[name] for name in shared}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_row(scripted: Server, row: Row) -> None:
    got = seen(ask(scripted.base_url, row.path, row.body))
    assert agrees(row.expected, got), f"expected {row.expected}\n     got {got}"


def test_one_question_at_a_time(scripted: Server) -> None:
    expected, got = waiting(scripted.base_url)
    assert got == expected


@pytest.mark.parametrize(("given", "expected"), vectors("api_response"))
def test_results_are_read_as_upstream_reads_them(
    scripted: Server, given: dict[str, Any], expected: dict[str, Any]
) -> None:
    expression = f"__import__('json').loads({json.dumps(given['pipeline_output'])!r})"
    reply = ask(scripted.base_url, "/eval_query", returned(expression))
    assert reply.status == expected["http_status"]
    if reply.status == 200:
        answer = json.loads(reply.body)
        found = {"server_status_message": answer["status_message"], **answer}
        for name in ("server_status_message", "score", "mistakes"):
            assert found[name] == expected[name], name


@pytest.mark.parametrize(("given", "expected"), vectors("model_hash"))
def test_model_hash(tmp_path: Path, given: dict[str, Any], expected: dict[str, Any]) -> None:
    for entry in given["entries"]:
        path = tmp_path / entry["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        if "symlink" in entry:
            path.symlink_to(entry["symlink"])
        elif "hex" in entry:
            path.write_bytes(bytes.fromhex(entry["hex"]))
        else:
            path.write_bytes(bytes([entry["fill_byte"]]) * entry["length"])
    if "error" in expected:
        with pytest.raises(OSError) as error:
            model_hash(tmp_path)
        assert type(error.value).__name__ == expected["error"]
    else:
        assert model_hash(tmp_path) == expected["sha256"]


@pytest.mark.parametrize(("given", "expected"), vectors("coldkey"))
def test_coldkey(tmp_path: Path, given: dict[str, Any], expected: dict[str, Any]) -> None:
    if given["file_name"]:
        path = tmp_path / given["file_name"]
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes.fromhex(given["file_hex"]))
    try:
        read = coldkey(tmp_path)
    except UnicodeDecodeError:
        # A 500 at the port, which the validator takes for none.
        read = None
    assert read == expected["read"]


def test_without_model_url_nothing_is_loaded(serve: Any) -> None:
    server = serve(SCRIPTED, MODEL_URL="", DEVAL_SCRIPT='{"import": {"do": "exits"}}')
    assert server.phases() == ["ready"]
    assert seen(ask(server.base_url, "/health")) == "200 true"
    assert seen(ask(server.base_url, "/eval_query", question())) == ERROR_500


def test_a_package_without_weights_and_coldkey(serve: Any, package: Path) -> None:
    server = serve(package)
    assert server.phases()[-1] == "ready"
    of_nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert seen(ask(server.base_url, "/get_model_hash")) == f'200 {{"hash":"{of_nothing}"}}'
    assert seen(ask(server.base_url, "/get_model_coldkey")) == '200 {"coldkey":null}'
    (package / "coldkey.txt").write_bytes(b" 5Grw\r\n")
    assert seen(ask(server.base_url, "/get_model_coldkey")) == '200 {"coldkey":" 5Grw\\n"}'
    (package / "folder.safetensors").mkdir()
    assert ask(server.base_url, "/get_model_hash").status == 500
    assert seen(ask(server.base_url, "/health")) == "200 true"


@pytest.mark.parametrize(
    ("script", "phases", "message"),
    [
        ({"import": {"do": "raises"}}, [], "ValueError: told to fail"),
        ({"load": {"do": "raises"}}, ["import"], "ValueError: told to fail"),
        ({"import": {"answer": "__import__('nothing')"}}, [], "ModuleNotFoundError: No module named 'nothing'"),
    ],
    ids=["import raises", "load raises", "module is missing"],
)
def test_a_package_that_cannot_start(serve: Any, script: dict[str, Any], phases: list[str], message: str) -> None:
    server = serve(SCRIPTED, DEVAL_SCRIPT=json.dumps(script))
    assert server.phases() == phases
    code, errors = server.failed()
    assert code == 1
    assert "Traceback (most recent call last):" in errors
    assert "model/pipeline.py" in errors
    assert errors.rstrip().endswith(message)


def test_an_empty_package_cannot_start(serve: Any, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    code, errors = serve(tmp_path / "empty").failed()
    assert (code, errors.rstrip().splitlines()[-1]) == (1, "ModuleNotFoundError: No module named 'model'")


def test_nothing_is_pulled_without_a_token(serve: Any, tmp_path: Path) -> None:
    code, errors = serve(tmp_path / "none", DEVAL_FETCH="1").failed()
    assert code == 1
    assert "ValueError: HUGGINGFACE_TOKEN is not set" in errors


def test_a_hub_out_of_reach_is_an_import_error(serve: Any, tmp_path: Path) -> None:
    (tmp_path / "pulled").mkdir()
    server = serve(tmp_path / "pulled", DEVAL_FETCH="1", HUGGINGFACE_TOKEN="hf_x", HF_ENDPOINT="http://127.0.0.1:9")
    assert server.phases() == ["fetch"]
    code, errors = server.failed()
    assert (code, errors.rstrip().splitlines()[-1]) == (1, "ModuleNotFoundError: No module named 'model'")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_response_tells_the_apis_own_time(scripted: Server, row: Row) -> None:
    reply = ask(scripted.base_url, row.path, row.body)
    assert re.fullmatch(r"app;dur=\d+\.\d{3}", reply.headers["server-timing"])
    called = row.path == "/eval_query" and reply.status in (200, 500) and "refused" not in row.name
    assert ("x-deval-observed" in reply.headers) == called


def test_what_the_pipeline_returned_is_told_before_it_became_json(scripted: Server) -> None:
    result = "{'score_completion': float('nan'), 'mistakes_completion': ('a b', '. .', 1), 'more': 0}"
    note = observed(ask(scripted.base_url, "/eval_query", returned(result)))
    assert note.pop("seconds") >= 0
    assert note == {
        "type": "dict",
        "keys": ["score_completion", "mistakes_completion", "more"],
        "score": {"type": "float", "repr": "nan", "finite": False},
        "mistakes": {
            "type": "tuple",
            "items": ["int", "str"],
            "count": 3,
            "longest_words": 2,
            "dots_only": True,
            "surrogate": False,
        },
    }


@pytest.mark.parametrize(
    ("expression", "part", "expected"),
    [
        ("None", "type", "NoneType"),
        ("{}", "score", None),
        ("{}", "mistakes", None),
        ("{'score_completion': 'abc'}", "score", {"type": "str", "repr": "'abc'", "finite": None}),
        ("{'mistakes_completion': None}", "mistakes", {"type": "NoneType"}),
        ("{'mistakes_completion': (text for text in 'ab')}", "mistakes", {"type": "generator"}),
        ("(_ for _ in ()).throw(ValueError('first\\nsecond é'))", "raised", "ValueError"),
        ("(_ for _ in ()).throw(ValueError('first\\nsecond é'))", "message", r"first\nsecond \xe9"),
        ("(_ for _ in ()).throw(SystemExit(3))", "raised", "SystemExit"),
    ],
)
def test_one_thing_that_is_told(scripted: Server, expression: str, part: str, expected: Any) -> None:
    assert observed(ask(scripted.base_url, "/eval_query", returned(expression)))[part] == expected


def test_a_surrogate_is_told_and_never_sent(scripted: Server) -> None:
    reply = ask(scripted.base_url, "/eval_query", returned("{'mistakes_completion': [chr(0xd800)]}"))
    assert observed(reply)["mistakes"]["surrogate"]
    assert reply.status == 500


def test_the_note_stays_below_four_kilobytes(scripted: Server) -> None:
    keys = "{'\\n\"' * 999 + str(i): i for i in range(99)}"
    item = "type('\\\\\"' * 999, (str,), {})('x')"
    for expression in (
        "(_ for _ in ()).throw(ValueError('\\\\\"\\n' * 9999))",
        f"{{**{keys}, 'score_completion': '\\\\\"' * 9999, 'mistakes_completion': [{item}] * 99}}",
        f"{{'score_completion': '\\\\\"' * 9999, 'mistakes_completion': [{item}] * 99, **{keys}}}",
    ):
        header = ask(scripted.base_url, "/eval_query", returned(expression)).headers["x-deval-observed"]
        assert header.isascii()
        assert json.loads(header)["seconds"] >= 0
        assert len(header) < 4096
