"""The server's own routes: predict, tasks, health, figures, and what admins may do."""

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request, Response

from ptune.serve.engine import InputRow, as_prediction
from ptune.serve.refusals import bad_request
from ptune.serve.registry import Entry
from ptune.serve.schemas import ErrorBody, Health, PredictAnswer, PredictBody, TaskList, TaskState, checked_rows
from ptune.serve.server import Server
from ptune.task import Task

__all__ = ["ERRORS", "admin_routes", "own_routes"]

ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorBody, "description": "A text or key cannot be used."},
    401: {"model": ErrorBody, "description": "A key is needed."},
    403: {"model": ErrorBody, "description": "Not allowed."},
    404: {"model": ErrorBody, "description": "No such task, or its bundle is refused."},
    413: {"model": ErrorBody, "description": "The body is too large."},
    422: {"model": ErrorBody, "description": "The body is not what the route takes."},
    429: {"model": ErrorBody, "description": "Too many texts wait; Retry-After says when to ask again."},
    503: {"model": ErrorBody, "description": "Starting or stopping."},
    504: {"model": ErrorBody, "description": "The request's time ran out."},
}


def own_routes(server: Server) -> APIRouter:
    """Predict, tasks, health and figures."""
    router = APIRouter(responses=ERRORS)

    @router.post("/v1/tasks/{task}/predict", tags=["tasks"], operation_id="predict")
    async def predict(task: str, body: PredictBody, request: Request) -> PredictAnswer:
        """Label texts: labels with probabilities, tags, spans or texts, as the task is made for."""
        if (body.input is None) == (body.inputs is None):
            raise bad_request("give either input or inputs", param="inputs")
        param = "inputs" if body.inputs is not None else "input"
        rows = checked_rows([body.input] if body.inputs is None else body.inputs, server.settings.limits, param=param)

        def rows_for(found: Task) -> Sequence[InputRow]:
            if body.min_probability is not None and found.model.kind != "classification":
                what = f"min_probability is for tasks of classification, this is one of {found.model.kind}"
                raise bad_request(what, param="min_probability")
            return rows

        version, ticket = await server.ask(request, task, rows_for, body.timeout)
        predictions = [_shown(answer, body.min_probability) for answer in ticket.answers]
        return PredictAnswer(task=ticket.name, version=version.digest[:16], predictions=predictions)

    @router.get("/v1/tasks", tags=["tasks"], operation_id="list_tasks", response_model_exclude_none=True)
    async def tasks() -> TaskList:
        """All bundles of the folder: those that are served, and those that are not, with the reason."""
        return TaskList(backbone=server.backbone.spec.name, tasks=[_state(entry) for entry in server.registry.entries])

    @router.get("/v1/tasks/{task}", tags=["tasks"], operation_id="get_task", response_model_exclude_none=True)
    async def one_task(task: str) -> TaskState:
        """One bundle."""
        return _state(server.registry.entry(task))

    @router.get("/health", tags=["health"], operation_id="health")
    @router.get("/health/ready", tags=["health"], operation_id="health_ready")
    async def health(response: Response) -> Health:
        """200 while requests are taken on, 503 while the server starts or stops."""
        response.status_code = 200 if server.is_ready else 503
        return _health(server)

    @router.get("/health/live", tags=["health"], operation_id="health_live")
    async def live(response: Response) -> Health:
        """200 while the server runs at all."""
        response.status_code = 200 if server.is_live else 503
        return _health(server)

    @router.get("/metrics", tags=["health"], operation_id="metrics", response_class=Response)
    async def metrics() -> Response:
        """Figures for Prometheus."""
        return Response(server.metrics.text(), media_type="text/plain; version=0.0.4")

    return router


def admin_routes(server: Server) -> APIRouter:
    """Load, unload, pin, list, reload; behind keys of their own."""
    router = APIRouter(
        prefix="/admin", tags=["admin"], responses={**ERRORS, 409: {"model": ErrorBody, "description": "Not now."}}
    )

    @router.get("/tasks", operation_id="admin_list", response_model_exclude_none=True)
    async def tasks() -> TaskList:
        """All bundles with their memory and loads."""
        return TaskList(backbone=server.backbone.spec.name, tasks=[_full(entry) for entry in server.registry.entries])

    @router.post("/tasks/{task}/load", operation_id="admin_load", response_model_exclude_none=True)
    async def load(task: str) -> TaskState:
        """Put a task into memory."""
        return _full((await server.registry.acquire(task))[0])

    @router.post("/tasks/{task}/unload", operation_id="admin_unload", response_model_exclude_none=True)
    async def unload(task: str) -> TaskState:
        """Put a task out of memory; it comes back when asked for."""
        return _full(server.registry.unload(task))

    @router.post("/tasks/{task}/pin", operation_id="admin_pin", response_model_exclude_none=True)
    async def pin(task: str) -> TaskState:
        """Keep a task in memory."""
        return _full(await server.registry.pin(task, True))

    @router.post("/tasks/{task}/unpin", operation_id="admin_unpin", response_model_exclude_none=True)
    async def unpin(task: str) -> TaskState:
        """Keep it no longer than others."""
        return _full(await server.registry.pin(task, False))

    @router.post("/reload", operation_id="admin_reload", response_model_exclude_none=True)
    async def reload() -> TaskList:
        """Look at the folder now."""
        await server.registry.reload()
        return await tasks()

    return router


def _shown(given: Any, min_probability: float | None) -> dict[str, Any]:
    """A prediction as plain values; with `min_probability`, a label that is less probable is withheld."""
    answer: dict[str, Any] = (as_prediction(given) if isinstance(given, tuple) else given).to_dict()
    if min_probability is None:
        return answer
    abstains = max(answer["probabilities"].values()) < min_probability
    return {**answer, **({"label": None} if abstains else {}), "abstained": abstains}


def _state(entry: Entry) -> TaskState:
    return TaskState(**entry.to_dict())


def _full(entry: Entry) -> TaskState:
    held = entry.version.num_bytes if entry.version is not None else 0
    return _state(entry).model_copy(update={"pinned": entry.is_pinned, "bytes": held, "loads": entry.num_loads})


def _health(server: Server) -> Health:
    served = sum(entry.version is not None for entry in server.registry.entries)
    return Health(live=server.is_live, ready=server.is_ready, tasks=served)
