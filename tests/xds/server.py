"""A control plane for tests/tests/data_plane: ADS, state of the world and delta, with Envoy's own messages.

Each line of standard input is a command in JSON, answered by one line:

    {"listen": PORT}              begins to serve, on a free port where it is 0: {"port": N}
    {"set": {KIND: {NAME: RES}}, "order": [KIND...]}
                                  resources of these kinds are these from now on, null where one is gone, and whoever
                                  has asked for one is told, kind by kind in this order: {"version": N}
    {"hold": [KIND...]}           these kinds are not answered
    {"send": KIND, "any": [[TYPE_URL, HEX]...], "version": V}
                                  a response of these resources, right or wrong, to every stream: {"sent": N}
    {"bytes": HEX}                what is no response at all, to every stream
    {"huge": KIND, "bytes": N}    a response of so many bytes
    {"take": N}                   requests since the last time, as soon as they are N or more

A kind is cds, eds, sds, lds or rds. A request is told as {"kind", "version", "nonce", "names", "error", "node",
"initial", "unsubscribe", "stream"}.
"""

import json
import queue
import sys
import threading
from concurrent import futures

import grpc
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2  # noqa: F401
from envoy.extensions.filters.network.http_connection_manager.v3 import (  # noqa: F401
    http_connection_manager_pb2,
)
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2, tls_pb2  # noqa: F401
from envoy.service.discovery.v3 import discovery_pb2 as discovery
from google.protobuf.any_pb2 import Any
from google.protobuf.json_format import ParseDict

MESSAGES = {
    "cds": cluster_pb2.Cluster,
    "eds": endpoint_pb2.ClusterLoadAssignment,
    "sds": secret_pb2.Secret,
    "lds": listener_pb2.Listener,
    "rds": route_pb2.RouteConfiguration,
}
URLS = {kind: f"type.googleapis.com/{message.DESCRIPTOR.full_name}" for kind, message in MESSAGES.items()}
KINDS = {url: kind for kind, url in URLS.items()}
WHOLE = ("cds", "lds")

LOCK = threading.Condition()
STATE = {kind: {} for kind in MESSAGES}
STREAMS = []
SEEN = []
HELD = set()
VERSION = 0


class Stream:
    """One stream of a proxy, of either method."""

    def __init__(self, is_delta, number):
        self.is_delta = is_delta
        self.number = number
        self.out = queue.Queue()
        self.nonce = 0
        # By kind: names that are asked for, and what was sent of them.
        self.asked = {}
        self.sent = {}
        self.nonces = {}

    def see(self, kind, request):
        error = request.error_detail.message if request.HasField("error_detail") else None
        seen = {"kind": kind, "nonce": request.response_nonce, "error": error, "stream": self.number}
        seen["node"] = request.node.id if request.HasField("node") else None
        if self.is_delta:
            seen["names"] = sorted(request.resource_names_subscribe)
            seen["unsubscribe"] = sorted(request.resource_names_unsubscribe)
            seen["initial"] = dict(request.initial_resource_versions)
        else:
            seen["names"] = sorted(request.resource_names)
            seen["version"] = request.version_info
        SEEN.append(seen)
        LOCK.notify_all()

    def hear(self, request):
        kind = KINDS.get(request.type_url)
        self.see(kind, request)
        if kind is None or kind in HELD:
            self.asked.setdefault(kind, set())
            return
        if self.is_delta:
            self.hear_delta(kind, request)
        else:
            self.hear_state(kind, request)

    def hear_state(self, kind, request):
        names = set(request.resource_names)
        is_first = kind not in self.asked
        if not is_first and request.response_nonce and request.response_nonce != self.nonces.get(kind):
            return
        is_other = is_first or names != self.asked[kind]
        self.asked[kind] = names
        if is_other:
            self.push(kind)

    def hear_delta(self, kind, request):
        is_first = kind not in self.asked
        names = self.asked.setdefault(kind, set())
        names |= set(request.resource_names_subscribe)
        names -= set(request.resource_names_unsubscribe)
        if is_first:
            self.sent[kind] = dict(request.initial_resource_versions)
        for name in request.resource_names_unsubscribe:
            self.sent[kind].pop(name, None)
        if is_first or request.resource_names_subscribe:
            self.push(kind, request.resource_names_subscribe)

    def is_wanted(self, kind, name):
        return kind in WHOLE or name in self.asked[kind]

    def next_nonce(self, kind):
        self.nonce += 1
        self.nonces[kind] = f"{self.number}-{self.nonce}"
        return self.nonces[kind]

    def push(self, kind, anew=()):
        if kind not in self.asked or kind in HELD:
            return
        known = {name: held for name, held in STATE[kind].items() if self.is_wanted(kind, name)}
        if not self.is_delta:
            if kind not in WHOLE and not known:
                return
            response = discovery.DiscoveryResponse(
                version_info=str(VERSION), type_url=URLS[kind], nonce=self.next_nonce(kind)
            )
            for _, any_of in known.values():
                response.resources.append(any_of)
            self.out.put(response.SerializeToString())
            return
        sent = self.sent.setdefault(kind, {})
        response = discovery.DeltaDiscoveryResponse(
            system_version_info=str(VERSION), type_url=URLS[kind], nonce=self.next_nonce(kind)
        )
        for name, (version, any_of) in known.items():
            if sent.get(name) != version:
                response.resources.append(discovery.Resource(name=name, version=version, resource=any_of))
                sent[name] = version
        for name in [name for name in sent if name not in known]:
            response.removed_resources.append(name)
            del sent[name]
        is_first_of_all = kind in WHOLE and not anew
        if response.resources or response.removed_resources or is_first_of_all:
            self.out.put(response.SerializeToString())


def serve(is_delta):
    def method(requests, context):
        with LOCK:
            stream = Stream(is_delta, len(STREAMS))
            STREAMS.append(stream)

        def listen():
            try:
                for request in requests:
                    with LOCK:
                        stream.hear(request)
            except grpc.RpcError:
                pass
            stream.out.put(None)

        threading.Thread(target=listen, daemon=True).start()
        context.add_callback(lambda: stream.out.put(None))
        while (message := stream.out.get()) is not None:
            yield message
        with LOCK:
            stream.asked = {}

    return method


def handlers():
    def handler(is_delta, request):
        return grpc.stream_stream_rpc_method_handler(
            serve(is_delta), request_deserializer=request.FromString, response_serializer=lambda bytes: bytes
        )

    return grpc.method_handlers_generic_handler(
        "envoy.service.discovery.v3.AggregatedDiscoveryService",
        {
            "StreamAggregatedResources": handler(False, discovery.DiscoveryRequest),
            "DeltaAggregatedResources": handler(True, discovery.DeltaDiscoveryRequest),
        },
    )


def put(command):
    global VERSION
    VERSION += 1
    for kind, resources in command["set"].items():
        for name, said in resources.items():
            if said is None:
                STATE[kind].pop(name, None)
                continue
            any_of = Any()
            any_of.Pack(ParseDict(said, MESSAGES[kind]()))
            STATE[kind][name] = (str(VERSION), any_of)
    for kind in command.get("order", command["set"]):
        for stream in STREAMS:
            stream.push(kind)
    return {"version": VERSION}


def send(kind, resources, version):
    live = [stream for stream in STREAMS if kind in stream.asked]
    for stream in live:
        nonce = stream.next_nonce(kind)
        if stream.is_delta:
            response = discovery.DeltaDiscoveryResponse(system_version_info=version, type_url=URLS[kind], nonce=nonce)
            for at, any_of in enumerate(resources):
                response.resources.append(discovery.Resource(name=f"r{at}", version=version, resource=any_of))
        else:
            response = discovery.DiscoveryResponse(version_info=version, type_url=URLS[kind], nonce=nonce)
            response.resources.extend(resources)
        stream.out.put(response.SerializeToString())
    return {"sent": len(live)}


def obey(command, server):
    if "listen" in command:
        port = server.add_insecure_port(f"127.0.0.1:{command['listen']}")
        server.start()
        return {"port": port}
    if "take" in command:
        with LOCK:
            LOCK.wait_for(lambda: len(SEEN) >= command["take"], timeout=25)
            seen = SEEN[:]
            SEEN.clear()
        return seen
    with LOCK:
        if "set" in command:
            return put(command)
        if "hold" in command:
            HELD.clear()
            HELD.update(command["hold"])
            return {}
        if "send" in command:
            resources = [Any(type_url=url, value=bytes.fromhex(value)) for url, value in command["any"]]
            return send(command["send"], resources, command["version"])
        if "huge" in command:
            filler = Any(type_url=URLS[command["huge"]], value=b"x" * command["bytes"])
            return send(command["huge"], [filler], "huge")
        live = [stream for stream in STREAMS if stream.asked]
        for stream in live:
            stream.out.put(bytes.fromhex(command["bytes"]))
        return {"sent": len(live)}


def main():
    options = [("grpc.max_send_message_length", -1)]
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=64), handlers=(handlers(),), options=options)
    for line in sys.stdin:
        print(json.dumps(obey(json.loads(line), server)), flush=True)
    server.stop(0)


main()
