"""page ADDRESS PORT: print "ready", and serve one HTTP page to everybody."""

from __future__ import annotations

import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

PAGE = b"hello from the container\n"


class Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(PAGE)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(PAGE)

    do_HEAD = do_GET

    def log_message(self, *words: object) -> None: ...


server = HTTPServer((sys.argv[1], int(sys.argv[2])), Page)
print("ready", flush=True)
server.serve_forever()
