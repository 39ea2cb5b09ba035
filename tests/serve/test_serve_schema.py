"""The OpenAPI document, and requests made from it by schemathesis: every answer is one that the document names, never a 500."""

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error, response_schema_conformance, status_code_conformance

from ptune.serve import add_key
from serving import live, save_task

EXAMPLES = 12
ROUTES = {
    ("get", "/v1/tasks"),
    ("get", "/v1/tasks/{task}"),
    ("post", "/v1/tasks/{task}/predict"),
    ("get", "/v1/models"),
    ("get", "/v1/models/{model}"),
    ("post", "/v1/completions"),
    ("post", "/v1/chat/completions"),
    ("get", "/health"),
    ("get", "/health/ready"),
    ("get", "/health/live"),
    ("get", "/metrics"),
    ("get", "/admin/tasks"),
    ("post", "/admin/tasks/{task}/load"),
    ("post", "/admin/tasks/{task}/unload"),
    ("post", "/admin/tasks/{task}/pin"),
    ("post", "/admin/tasks/{task}/unpin"),
    ("post", "/admin/reload"),
}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[str, str]]]:
    root = tmp_path_factory.mktemp("bundles")
    save_task(root / "in", "reviews")
    keys = root / "admins"
    headers = {"Authorization": f"Bearer {add_key(keys, 'admin')}"}
    with live(root / "in", admin_key_file=keys) as url:
        yield url, headers


@pytest.fixture(scope="module")
def document(served: tuple[str, dict[str, str]]) -> dict[str, Any]:
    answer: dict[str, Any] = httpx2.get(f"{served[0]}/openapi.json").json()
    return answer


def test_the_document_names_every_route(document: dict[str, Any]) -> None:
    assert {(verb, path) for path, verbs in document["paths"].items() for verb in verbs} == ROUTES


def test_every_route_says_what_it_is_for(document: dict[str, Any]) -> None:
    for path, verbs in document["paths"].items():
        for one in verbs.values():
            assert one.get("description"), path
            assert "404" in one["responses"] and "200" in one["responses"]


WITH_BODY = [one for one in sorted(ROUTES) if one[1].endswith(("predict", "completions"))]
CASES = [*((*one, "POSITIVE") for one in sorted(ROUTES)), *((*one, "NEGATIVE") for one in WITH_BODY)]


@pytest.mark.parametrize(("verb", "path", "mode"), CASES, ids=str)
def test_made_up_requests(
    served: tuple[str, dict[str, str]], document: dict[str, Any], verb: str, path: str, mode: str
) -> None:
    """Those that fit the document, and those that do not."""
    url, headers = served
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=url)
    operation = schema[path][verb.upper()]
    seen: list[int] = []

    def ask(case: schemathesis.Case) -> None:
        if case.path_parameters:
            case.path_parameters = {name: "reviews" if len(seen) % 2 else value for name, value in case.path_parameters.items()}
        if isinstance(case.body, dict) and "model" in case.body and len(seen) % 2:
            case.body["model"] = "reviews"
        if isinstance(case.body, dict) and mode == "POSITIVE":
            case.body.pop("timeout", None)  # a short one is rightly answered 504
        response = case.call(headers=headers)
        seen.append(response.status_code)
        case.validate_response(
            response, checks=[not_a_server_error, status_code_conformance, response_schema_conformance], headers=headers
        )

    strategy = operation.as_strategy(generation_mode=schemathesis.GenerationMode[mode])
    checked = settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    checked(given(case=strategy)(ask))()
    assert seen and max(seen) < 500


def test_the_document_is_the_same_each_time(document: dict[str, Any], served: tuple[str, dict[str, str]]) -> None:
    assert httpx2.get(f"{served[0]}/openapi.json").json() == json.loads(json.dumps(document))


def test_the_page_of_the_document(served: tuple[str, dict[str, str]]) -> None:
    page = httpx2.get(f"{served[0]}/docs")
    assert page.status_code == 200 and "openapi.json" in page.text
