"""A receiver of OTLP over HTTP that is not ours: it decodes requests with the messages of the
OpenTelemetry project. It prints lines of JSON to stderr: first its port, then each request with its
headers, its spans, and its raw body.

Usage: otlp.py [PORT [STATUS]]: another status than 200 refuses all requests.
"""

import base64
import gzip
import http.server
import json
import sys

from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as service

PORT = int(sys.argv[1]) if len(sys.argv) > 1 else 0
STATUS = int(sys.argv[2]) if len(sys.argv) > 2 else 200


def value(any_value):
    kind = any_value.WhichOneof("value")
    return getattr(any_value, kind) if kind else None


def attributes(pairs):
    return {pair.key: value(pair.value) for pair in pairs}


def spans(request):
    for of_resource in request.resource_spans:
        resource = attributes(of_resource.resource.attributes)
        for of_scope in of_resource.scope_spans:
            for span in of_scope.spans:
                yield {
                    "resource": resource,
                    "scope": of_scope.scope.name,
                    "trace": span.trace_id.hex(),
                    "span": span.span_id.hex(),
                    "parent": span.parent_span_id.hex(),
                    "name": span.name,
                    "kind": int(span.kind),
                    "status": int(span.status.code),
                    "start": span.start_time_unix_nano,
                    "end": span.end_time_unix_nano,
                    "attributes": attributes(span.attributes),
                    "events": len(span.events),
                }


def say(line):
    print(json.dumps(line), file=sys.stderr, flush=True)


class Receiver(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def body(self):
        if self.headers.get("transfer-encoding") != "chunked":
            return self.rfile.read(int(self.headers["content-length"]))
        pieces = []
        while size := int(self.rfile.readline().strip(), 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def do_POST(self):
        raw = self.body()
        # An exception ends the connection, and the test finds no spans.
        assert self.path == "/v1/traces", self.path
        assert self.headers["content-type"] == "application/x-protobuf"
        # Our daemon does not compress, a collector between may.
        if self.headers.get("content-encoding") == "gzip":
            raw = gzip.decompress(raw)
        decoded = service.ExportTraceServiceRequest.FromString(raw)
        headers = {name.lower(): text for name, text in self.headers.items()}
        found = list(spans(decoded)) if STATUS == 200 else []
        body = base64.b64encode(raw).decode()
        say({"status": STATUS, "headers": headers, "spans": found, "body": body})
        response = service.ExportTraceServiceResponse().SerializeToString()
        self.send_response(STATUS)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", str(len(response)))
        self.end_headers()
        self.wfile.write(response)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True


server = Server(("127.0.0.1", PORT), Receiver)
say({"port": server.server_port})
server.serve_forever()
