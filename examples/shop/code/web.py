"""Takes orders: web.py PORT REDIS. POST /orders puts one into redis, GET / tells how many there are."""
import http.server
import json
import sys

from redis import Redis

PORT, REDIS = int(sys.argv[1]), sys.argv[2]


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/up":
            return self.reply(200, "up\n")
        with Redis(REDIS) as redis:
            counts = {name: int(redis.ask("GET", name) or 0) for name in ("ordered", "shipped")}
        self.reply(200, json.dumps(counts) + "\n")

    def do_POST(self):
        order = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        with Redis(REDIS) as redis:
            number = redis.ask("INCR", "ordered")
            redis.ask("RPUSH", "orders", order)
        print("ordered", order)
        self.reply(201, f"{number}\n")

    def reply(self, status, text):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """What is ordered is said above."""


http.server.ThreadingHTTPServer(("", PORT), Handler).serve_forever()
