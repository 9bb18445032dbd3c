"""A server on loopback that reads whatever is sent to it and answers as Qdrant does when all went well."""

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_BODY = b'{"result":true,"status":"ok","time":0.0}'


class _Sink(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        if self.headers.get("Expect") == "100-continue":
            self.send_response_only(100)
            self.end_headers()
        left, buffer = int(self.headers["Content-Length"]), memoryview(bytearray(1 << 20))
        while left and (got := self.rfile.readinto(buffer[:left])):
            left -= got
        self.do_GET()

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(_BODY)))
        self.end_headers()
        self.wfile.write(_BODY)

    def log_message(self, *_: object) -> None:
        pass


if __name__ == "__main__":
    with ThreadingHTTPServer(("127.0.0.1", 0), _Sink) as server:
        print(f"http://127.0.0.1:{server.server_port}", flush=True)
        server.serve_forever()
