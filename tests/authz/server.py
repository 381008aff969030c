"""Servers that are asked whether requests may pass, with Envoy's own messages, for tests/tests/data_plane.

One speaks gRPC (`envoy.service.auth.v3.Authorization/Check`), one HTTP/1.1. Both listen on free ports, which are the first
thing printed: {"grpc": port, "http": port}. Then each line of standard input is a command in JSON, answered by one line:

    {"take": N}     what was asked since the last time, as soon as it is N questions or more

What a server answers stands in the header `x-do` of the request that it is asked about; without one it lets it pass:

    deny            401, with headers and a body          bare        a refusal that says nothing
    ok              lets it pass, and says a lot          error       an answer of 500, or gRPC's UNAVAILABLE
    wrong           an answer that is none                own         an error with an answer of its own (gRPC)
    slow            nothing for 30 s                      invalid     a header that cannot be
    cookie          a refusal with a header that is appended (gRPC)
    query           sets and removes parameters (gRPC)    route       another tenant
    redirect        302 (HTTP)                            frame       what frames a message
"""

import json
import sys
import threading
import time
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
from envoy.config.core.v3 import base_pb2 as core
from envoy.service.auth.v3 import external_auth_pb2 as auth
from envoy.service.auth.v3 import external_auth_pb2_grpc as service
from google.protobuf.json_format import MessageToDict

SEEN = []
CHANGED = threading.Condition()
ACTIONS = core.HeaderValueOption


def see(question):
    with CHANGED:
        SEEN.append(question)
        CHANGED.notify_all()


def option(name, value, action=None, append=None):
    said = core.HeaderValueOption(header=core.HeaderValue(key=name, value=value))
    if append is not None:
        said.append.value = append
    if action is not None:
        said.append_action = action
    return said


class Grpc(service.AuthorizationServicer):
    def Check(self, request, context):
        attributes = request.attributes
        http = attributes.request.http
        headers = dict(http.headers) or {
            header.key: header.raw_value.decode("latin-1") for header in http.header_map.headers
        }
        see(
            {
                "method": http.method,
                "path": http.path,
                "host": http.host,
                "scheme": http.scheme,
                "protocol": http.protocol,
                "size": http.size,
                "body": http.body,
                "raw_body": http.raw_body.hex(),
                "headers": headers,
                "listed": sorted([header.key, header.raw_value.hex()] for header in http.header_map.headers),
                "context": dict(attributes.context_extensions),
                "metadata": MessageToDict(attributes.metadata_context),
                "has_id": bool(http.id),
                "age": abs(time.time() - attributes.request.time.seconds) < 3600,
                "source": attributes.source.address.socket_address.address,
                "source_port": attributes.source.address.socket_address.port_value > 0,
                "source_name": attributes.source.principal,
                "service": attributes.source.service,
                "certificate": attributes.source.certificate,
                "destination": attributes.destination.address.socket_address.address,
                "sni": attributes.tls_session.sni,
                "call": sorted(
                    [key, value]
                    for key, value in context.invocation_metadata()
                    if key in ("x-initial", "content-type")
                ),
            }
        )
        do = headers.get("x-do", "")
        answer = auth.CheckResponse()
        if do == "deny":
            answer.status.code = 7
            answer.denied_response.status.code = 401
            answer.denied_response.body = "not you: " + "x" * 100
            answer.denied_response.headers.extend(
                [
                    option("x-why", "one"),
                    option("x-why", "two"),
                    option("set-cookie", "a=1"),
                    option("set-cookie", "b=2"),
                    option("content-type", "text/html", append=False),
                ]
            )
        elif do == "cookie":
            answer.status.code = 7
            answer.denied_response.headers.append(option("set-cookie", "a=1", append=True))
        elif do == "bare":
            answer.status.code = 16
        elif do == "ok":
            ok = answer.ok_response
            ok.headers.extend(
                [
                    option("x-user", "me"),
                    option("x-set", "new", append=False),
                    option("x-join", "new", append=True),
                    option("x-join-new", "new", append=True),
                    option("x-add", "new", action=ACTIONS.APPEND_IF_EXISTS_OR_ADD),
                    option("x-absent", "new", action=ACTIONS.ADD_IF_ABSENT),
                    option("x-absent-new", "new", action=ACTIONS.ADD_IF_ABSENT),
                    option("x-over", "new", action=ACTIONS.OVERWRITE_IF_EXISTS_OR_ADD),
                    option("x-if", "new", action=ACTIONS.OVERWRITE_IF_EXISTS),
                    option("x-if-new", "new", action=ACTIONS.OVERWRITE_IF_EXISTS),
                ]
            )
            ok.headers_to_remove.extend(["x-gone", "x-do"])
            ok.response_headers_to_add.extend(
                [
                    option("x-told", "one"),
                    option("x-told", "two", append=True),
                    option("x-told-set", "new", append=False),
                    option("x-up", "new", action=ACTIONS.OVERWRITE_IF_EXISTS_OR_ADD),
                    option("x-up-absent", "new", action=ACTIONS.ADD_IF_ABSENT),
                    option("x-up-if", "new", action=ACTIONS.OVERWRITE_IF_EXISTS),
                ]
            )
        elif do == "query":
            answer.ok_response.query_parameters_to_set.extend(
                [core.QueryParameter(key="a", value="9"), core.QueryParameter(key="z", value="8")]
            )
            answer.ok_response.query_parameters_to_remove.append("b")
        elif do == "error":
            context.abort(grpc.StatusCode.UNAVAILABLE, "no")
        elif do == "own":
            answer.status.code = 13
            answer.error_response.status.code = 509
            answer.error_response.body = "mine"
            answer.error_response.headers.append(option("x-why", "error"))
        elif do == "slow":
            time.sleep(30)
        elif do == "invalid":
            answer.ok_response.headers.append(option("x-user", "a\r\nx-evil: b"))
        elif do == "route":
            answer.ok_response.headers.append(option("x-tenant", "b", append=False))
        elif do == "frame":
            answer.ok_response.headers.extend(
                [option(name, "7", append=False) for name in ("content-length", "transfer-encoding", "connection")]
            )
        return answer


class Http(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        length = int(self.headers.get("content-length") or 0)
        body = self.rfile.read(length)
        names = sorted(set(name.lower() for name in self.headers))
        see(
            {
                "method": self.command,
                "path": self.path,
                "body": body.hex(),
                "headers": {name: self.headers.get_all(name) for name in names},
            }
        )
        do = self.headers.get("x-do", "")
        headers, status, said = [], 200, b""
        if do == "deny":
            status, said = 401, b"not you"
            headers = [("x-why", "one"), ("x-why", "two"), ("www-authenticate", "Basic"), ("x-other", "1")]
        elif do == "redirect":
            status, headers = 302, [("location", "https://login.example/"), ("set-cookie", "a=1")]
        elif do == "ok":
            headers = [
                ("x-user", "me"),
                ("x-set", "new"),
                ("x-add", "one"),
                ("x-add", "two"),
                ("x-told", "told"),
                ("x-envoy-auth-headers-to-remove", "x-gone, x-do"),
                ("x-hidden", "1"),
            ]
        elif do == "error":
            status, said = 500, b"broken"
        elif do == "wrong":
            self.wfile.write(b"not HTTP at all\r\n\r\n")
            self.close_connection = True
            return
        elif do == "slow":
            time.sleep(30)
        elif do == "route":
            headers = [("x-tenant", "b")]
        self.send_response_only(status)
        self.send_header("content-length", str(len(said)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(said)

    do_GET = do_POST = do_PUT = do_HEAD = do_OPTIONS = answer

    def log_message(self, *_):
        pass


def main():
    calls = grpc.server(futures.ThreadPoolExecutor(max_workers=16))
    service.add_AuthorizationServicer_to_server(Grpc(), calls)
    port = calls.add_insecure_port("127.0.0.1:0")
    calls.start()
    http = ThreadingHTTPServer(("127.0.0.1", 0), Http)
    http.daemon_threads = True
    threading.Thread(target=http.serve_forever, daemon=True).start()
    print(json.dumps({"grpc": port, "http": http.server_address[1]}), flush=True)
    for line in sys.stdin:
        count = json.loads(line)["take"]
        with CHANGED:
            CHANGED.wait_for(lambda: len(SEEN) >= count, timeout=60)
            taken, SEEN[:] = list(SEEN), []
        print(json.dumps(taken), flush=True)


main()
