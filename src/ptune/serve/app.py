"""The web application: routes, the guard in front of them, and errors in one form.

In: settings and a loaded backbone. Out: a FastAPI application that starts and stops the server with itself.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from ptune.backbone import Backbone
from ptune.serve.guard import Guard
from ptune.serve.keys import read_keys
from ptune.serve.openai import openai_routes
from ptune.serve.refusals import Refusal
from ptune.serve.routes import admin_routes, own_routes
from ptune.serve.server import Server
from ptune.serve.settings import ServeSettings

__all__ = ["build_app"]

_ABOUT = """Many tasks on one frozen language model: each was learned as a prompt, and requests of all of them share batches."""
_CODES = {404: "not_found", 405: "method_not_allowed"}


def build_app(settings: ServeSettings, backbone: Backbone) -> FastAPI:
    """The application; `app.state.server` is what runs behind it.

    Args:
        settings: of the server.
        backbone: the frozen model.

    Raises:
        ServeError: a key file that cannot be read.
    """
    keys = None if settings.api_key_file is None else read_keys(settings.api_key_file)
    admin_keys = None if settings.admin_key_file is None else read_keys(settings.admin_key_file)
    server = Server(settings, backbone)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        server.start()
        yield
        await server.stop()

    app = FastAPI(title="ptune serve", description=_ABOUT, version="1", lifespan=lifespan)
    app.state.server = server
    app.add_middleware(Guard, settings=settings, keys=keys, admin_keys=admin_keys, metrics=server.metrics)
    app.add_exception_handler(Refusal, _on_refusal)
    app.add_exception_handler(RequestValidationError, _on_bad_body)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.include_router(own_routes(server))
    app.include_router(openai_routes(server))
    if admin_keys is not None:
        app.include_router(admin_routes(server))
    return app


async def _on_refusal(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Refusal)
    return JSONResponse(error.to_dict(), error.status, error.headers)


async def _on_bad_body(_: Request, error: Exception) -> JSONResponse:
    """What is wrong with a body, key by key, without what was sent."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"] if part != "body")[:100]
    message = f"{place}: {first['msg']}" if place else str(first["msg"])
    refusal = Refusal(422, "bad_body", message.encode("utf-8", "replace").decode(), param=place or None)
    return JSONResponse(refusal.to_dict(), refusal.status)


async def _on_http_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    refusal = Refusal(error.status_code, _CODES.get(error.status_code, "bad_request"), str(error.detail))
    return JSONResponse(refusal.to_dict(), refusal.status, error.headers)
