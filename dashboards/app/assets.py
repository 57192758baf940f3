"""marimo's own files, sent without the way through its server: a page asks for hundreds before it shows anything."""

import mimetypes
from collections.abc import MutableMapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from hushsweep.dashboards.app.guard import Asgi, Receive, Scope, Send

_PREFIX = "/assets/"


class Assets:
    """Answers GET /assets/NAME from memory, and passes everything else on; all files are the library's."""

    def __init__(self, app: Asgi) -> None:
        self._app = app
        folder = Path(str(files("marimo"))) / "_static" / "assets"
        self._files = {f"{_PREFIX}{file.name}": file for file in folder.iterdir() if file.is_file()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the file, or pass on."""
        file = (
            self._files.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "GET" else None
        )
        if file is None:
            await self._app(scope, receive, send)
            return
        body, start = _answer(file)
        await send(dict(start))
        await send({"type": "http.response.body", "body": body})


@cache
def _answer(file: Path) -> tuple[bytes, MutableMapping[str, Any]]:
    body = file.read_bytes()
    kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    # a browser that keeps hundreds of small files takes longer to find them than to ask this machine again
    headers = [
        (b"content-type", kind.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
    ]
    return body, {"type": "http.response.start", "status": 200, "headers": headers}
