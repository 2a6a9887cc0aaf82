"""POST to a URL: directly, whatever proxies there are, and without going where the answer points."""

from __future__ import annotations

import base64
import contextlib
import functools
import http.client
import queue
import re
import socket
import threading
from urllib.parse import SplitResult, unquote, urlsplit

from kubectl_sidecar import __version__
from kubectl_sidecar.errors import RefreshFailed
from kubectl_sidecar.process.pipeline import Stop
from kubectl_sidecar.supervise.refresh import timed_out
from kubectl_sidecar.task import Hook, Task

# Seconds; sockets take 24 days at most.
_LONGEST = 86400.0


def post(hook: Hook, task: Task, stop: Stop) -> None:
    """POST to the URL of a hook; raises RefreshFailed unless the answer is 2xx in time, and Stopping."""
    url = urlsplit(hook.url)
    kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    # Its user, password and query may be secrets.
    server = url.netloc.rpartition("@")[2]
    connection = kind(server, timeout=min(task.timeout + 1, _LONGEST))
    wrong: queue.SimpleQueue[str] = queue.SimpleQueue()
    end = functools.partial(wrong.put, "")
    stop.ends.add(end)
    try:
        stop.check()
        # In a thread of its own: nothing interrupts one that asks a name server.
        threading.Thread(target=lambda: wrong.put(_talk(connection, url)), daemon=True).start()
        text = wrong.get(timeout=task.timeout)
    except queue.Empty:
        text = timed_out(task)
    except RuntimeError as error:
        text = str(error)  # there are too many threads
    finally:
        stop.ends.discard(end)
        if (sock := connection.sock) is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
    stop.check()
    if text:
        place = f" {url.scheme}://{server}{url.path}" * (not hook.expanded)
        raise RefreshFailed(f"POST{place}: {text}")


def _talk(connection: http.client.HTTPConnection, url: SplitResult) -> str:
    """POST, and return what is wrong with the answer; "" if nothing is."""
    headers = {"User-Agent": f"kubectl-sidecar/{__version__}"}
    if url.username is not None:
        user = f"{unquote(url.username)}:{unquote(url.password or '')}"
        headers["Authorization"] = f"Basic {base64.b64encode(user.encode()).decode()}"
    try:
        connection.request("POST", (url.path or "/") + f"?{url.query}" * bool(url.query), headers=headers)
        status = connection.getresponse().status
        return "" if 200 <= status < 300 else f"answered with {status}"
    except OSError as error:
        # What TLS finds wrong names the host in quotes, which may come from a variable.
        text = getattr(error, "verify_message", None) or error.strerror or str(error)
        return re.sub("'.*'", "'…'", text)
    except http.client.HTTPException:
        return "the answer is not HTTP"
    except ValueError:
        return "there can be no host of that name"
    finally:
        connection.close()
