"""Serve a folder over HTTP on loopback, and read every file of it back as a client: serve.py FOLDER."""
import functools
import http.server
import os
import sys
import threading
import urllib.parse
import urllib.request


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format, *args):
        """The client's lines below say enough."""


def pages(folder):
    """Paths of all files below folder, as a URL has them."""
    for parent, _, files in os.walk(folder):
        for file in files:
            yield urllib.parse.quote(os.path.relpath(os.path.join(parent, file), folder))


folder = sys.argv[1]
handler = functools.partial(Handler, directory=folder)
with http.server.ThreadingHTTPServer(("127.0.0.1", 8080), handler) as server:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for page in sorted(pages(folder)):
        with urllib.request.urlopen(f"http://127.0.0.1:8080/{page}") as answer:
            body = answer.read()
            print(f"{answer.status} /{page}: {len(body)} bytes of {answer.headers['Content-Type']}")
            print(body.decode())
    server.shutdown()
