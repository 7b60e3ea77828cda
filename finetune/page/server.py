"""The server of the page: for one browser on this machine, its files and a few addresses, and nothing else."""

import socket
from contextlib import asynccontextmanager
from json import loads
from pathlib import Path

from finetune import InputError
from finetune.models.files.schemas import reason
from finetune.page.desk import Desk, Job
from finetune.page.tried import Tried
from finetune.predicting.streams import as_json

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse
from mlflow.exceptions import MlflowException
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Receive, Scope, Send

FOLDER = Path(__file__).parent
HOSTS = ("127.0.0.1", "localhost")
FILES = {"/": "page.html", "/page.css": "page.css", "/page.js": "page.js"}
MOST_BYTES = 1_000_000  # of a request
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self';"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


class Guard:
    """Lets in what the page itself asks: by this machine's name and port, and to change anything, of its origin.

    Another page in the same browser can send requests here, and by a name of its own that leads to 127.0.0.1 it could
    read the answers.
    """

    def __init__(self, app: ASGIApp, port: int):
        self.app, self.hosts = app, {f"{host}:{port}" for host in HOSTS}
        self.hosts |= set(HOSTS) if port == 80 else set()  # Browsers leave the usual port out.

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":  # There are no WebSockets here.
            return None
        if refused := self._refusal(Request(scope)):
            return await JSONResponse({"error": refused}, 403, HEADERS)(scope, receive, send)

        async def send_guarded(message):
            if message["type"] == "http.response.start":
                message["headers"] += [(name.encode(), value.encode()) for name, value in HEADERS.items()]
            await send(message)

        return await self.app(scope, receive, send_guarded)

    def _refusal(self, request: Request) -> str:
        hosts, origins = request.headers.getlist("host"), request.headers.getlist("origin")
        if len(hosts) != 1 or hosts[0] not in self.hosts:
            return "this page is for this machine: its Host is 127.0.0.1 or localhost, with the port."
        own = {f"http://{host}" for host in self.hosts}
        if (origins or request.method != "GET") and (len(origins) != 1 or origins[0] not in own):
            return "the request is of another page."
        if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return "the request is of another page."
        if request.method != "GET" and not request.headers.get("content-type", "").startswith("application/json"):
            return "expected JSON."
        return ""


def make_app(tried: Tried, port: int) -> FastAPI:
    """Return the server's application.

    Args:
        tried: the model, or the list of those that can be chosen.
    """

    @asynccontextmanager
    async def begin(app: FastAPI):
        desk.put(Job(lambda job: tried.load()))
        yield

    app, desk = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, lifespan=begin), Desk()
    app.add_middleware(Guard, port=port)

    @app.exception_handler(InputError)
    async def refuse(request: Request, error: InputError) -> JSONResponse:
        return JSONResponse({"error": str(error)}, 400)

    @app.exception_handler(MlflowException)
    @app.exception_handler(OSError)  # Of a store in files.
    async def say(request: Request, error: MlflowException | OSError) -> JSONResponse:
        return JSONResponse({"error": f"MLflow does not give this: {reason(error)}."}, 400)

    def file(name: str):
        return lambda: FileResponse(FOLDER / name)

    for path, name in FILES.items():
        app.add_api_route(path, file(name), methods=["GET"])

    @app.get("/api/state")
    def state() -> dict:
        return tried.state() | {"queue": len(desk.jobs)}

    @app.get("/api/choices")
    def choices() -> list[dict]:
        return tried.choices()

    @app.get("/api/scorecard")
    def scorecard() -> dict:
        return tried.shown.scorecards()

    @app.get("/api/figures")
    def figures() -> dict:
        return tried.shown.figures()

    @app.get("/api/figures/{number}")
    def figure(number: int) -> Response:
        return Response(tried.shown.figure(number), media_type="image/png")

    @app.post("/api/choose")
    async def choose(request: Request) -> dict:
        given = await read(request)
        await run_in_threadpool(tried.choose, given.get("uri"))
        desk.put(Job(lambda job: tried.load()))
        return {}

    @app.post("/api/ask")
    async def ask(request: Request) -> StreamingResponse:
        given = await read(request)
        return stream(Job(lambda job: tried.ask(given, job.emit)))

    @app.post("/api/try")
    async def try_out(request: Request) -> StreamingResponse:
        given = await read(request)
        return stream(Job(lambda job: job.emit(side="yours", answer=tried.try_out(given))))

    @app.post("/api/judge")
    async def judge(request: Request) -> dict:
        return await run_in_threadpool(tried.judge, await read(request))

    def stream(job: Job) -> StreamingResponse:
        desk.put(job)
        return StreamingResponse(events(job), media_type="application/x-ndjson")

    async def events(job: Job):
        try:
            while (event := await job.events.get()) is not None:
                yield as_json(event) + "\n"
        finally:
            desk.drop(job)

    return app


async def read(request: Request) -> dict:
    """Return the JSON object of a request.

    Raises:
        InputError: it is none, or too long.
    """
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MOST_BYTES:
            raise InputError(f"that is longer than {MOST_BYTES:,} bytes.")
    try:
        found = loads(body)
    except (ValueError, RecursionError) as error:
        raise InputError("expected a JSON object.") from error
    if not isinstance(found, dict):
        raise InputError("expected a JSON object.")
    return found


def open_socket(port: int) -> socket.socket:
    """Return a socket on 127.0.0.1 alone; on any free port for 0.

    Raises:
        InputError: the port is taken.
    """
    found = socket.socket()
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((HOSTS[0], port))
    except (OSError, OverflowError) as error:
        raise InputError(f"--port {port} cannot be used ({error}); 0 takes a free one.") from error
    return found


def make_server(app: FastAPI) -> uvicorn.Server:
    """Return what serves the application until Ctrl-C or SIGTERM."""
    return uvicorn.Server(
        uvicorn.Config(
            app, log_config=None, log_level="warning", access_log=False, server_header=False, ws="none",
            timeout_graceful_shutdown=1,
        )
    )  # fmt: skip
