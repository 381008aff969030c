"""A client of HTTP/3 that has nothing to do with naru: aioquic. It is told what to do by lines of JSON, and answers by
lines of JSON. What stands in requests: see `Exchange.send`."""

import asyncio
import hashlib
import json
import socket
import ssl
import sys
import tempfile
import time

from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3Connection, encode_frame
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import (
    ConnectionTerminated,
    HandshakeCompleted,
    StopSendingReceived,
    StreamReset,
)

TEXT_BYTES_MAX = 4096
HEADERS = 0x01


def text(pairs):
    return [[name.decode("latin-1"), value.decode("latin-1")] for name, value in pairs]


def pairs(said):
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in said]


class Exchange:
    """One request, and what came of it."""

    def __init__(self, client, said):
        self.client = client
        self.said = said
        self.heads = []
        self.trailers = None
        self.length = 0
        self.hash = hashlib.sha256()
        self.text = b""
        self.reset = None
        self.stopped = None
        self.over = asyncio.Event()
        self.progress = asyncio.Event()
        self.stream = client._quic.get_next_available_stream_id()
        client.exchanges[self.stream] = self

    def send(self):
        """`headers` are all fields with the pseudo headers; `body` is text, `bytes` a number of bytes beside it, `trailers`
        are fields; `open` leaves the stream open; `cancel` gives up after so many bytes of the answer."""
        said, quic = self.said, self.client._quic
        block = self.client.http._encode_headers(self.stream, pairs(said["headers"]))
        body = said.get("body", "").encode() + b"x" * said.get("bytes", 0)
        trailers = said.get("trailers")
        stays_open = said.get("open", False)
        more = bool(body) or bool(trailers) or stays_open
        quic.send_stream_data(self.stream, encode_frame(HEADERS, block), end_stream=not more)
        if body:
            ends = not trailers and not stays_open
            quic.send_stream_data(self.stream, encode_frame(0, body), end_stream=ends)
        if trailers:
            block = self.client.http._encode_headers(self.stream, pairs(trailers))
            quic.send_stream_data(self.stream, encode_frame(HEADERS, block), end_stream=not stays_open)

    def cancel(self):
        quic = self.client._quic
        quic.stop_stream(self.stream, 0x10C)
        if self.stream in quic._streams and not quic._streams[self.stream].sender.is_finished:
            quic.reset_stream(self.stream, 0x10C)
        self.over.set()

    def take(self, event):
        if isinstance(event, HeadersReceived):
            # The last head is the response's; what follows it are trailers.
            if self.heads and not text(self.heads[-1])[0][1].startswith("1"):
                self.trailers = event.headers
            else:
                self.heads.append(event.headers)
        elif isinstance(event, DataReceived):
            self.length += len(event.data)
            self.hash.update(event.data)
            self.text += event.data[: TEXT_BYTES_MAX - len(self.text)]
        self.progress.set()
        if event.stream_ended:
            self.over.set()
        cancel = self.said.get("cancel")
        if cancel is not None and self.length >= cancel and not self.over.is_set():
            self.cancel()

    def outcome(self):
        fields = text(self.heads[-1]) if self.heads else []
        return {
            "status": int(fields[0][1]) if fields else None,
            "interim": [int(text(head)[0][1]) for head in self.heads[:-1]],
            "early": [text(head)[1:] for head in self.heads[:-1]],
            "headers": fields[1:],
            "trailers": None if self.trailers is None else text(self.trailers),
            "length": self.length,
            "sha256": self.hash.hexdigest(),
            "text": self.text.decode("latin-1"),
            "reset": self.reset,
            "stopped": self.stopped,
        }


class Client(QuicConnectionProtocol):
    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        self.http = None
        self.exchanges = {}
        self.resets = {}
        self.ready = asyncio.Event()
        self.ended = asyncio.Event()
        self.code = None
        self.transport_failed = None

    def quic_event_received(self, event):
        if isinstance(event, HandshakeCompleted):
            self.ready.set()
        elif isinstance(event, ConnectionTerminated):
            self.code = event.error_code
            self.transport_failed = event.frame_type is not None
            self.ready.set()
            self.ended.set()
            for exchange in self.exchanges.values():
                exchange.over.set()
        elif isinstance(event, StreamReset):
            self.resets[event.stream_id] = event.error_code
            if exchange := self.exchanges.get(event.stream_id):
                exchange.reset = event.error_code
                exchange.over.set()
            return
        elif isinstance(event, StopSendingReceived):
            if exchange := self.exchanges.get(event.stream_id):
                exchange.stopped = event.error_code
            return
        if self.http is None:
            return
        for said in self.http.handle_event(event):
            if exchange := self.exchanges.get(getattr(said, "stream_id", None)):
                exchange.take(said)

    def stop_reading(self):
        """What comes is taken; but nothing more is allowed to come."""
        self._quic._write_connection_limits = lambda *_, **__: None
        self._quic._write_stream_limits = lambda *_, **__: None


clients = []
wires = []


async def connect(said):
    configuration = QuicConfiguration(is_client=True, alpn_protocols=[said.get("alpn", "h3")])
    configuration.server_name = said["name"]
    configuration.load_verify_locations(cadata=said["ca"].encode())
    if said.get("window"):
        configuration.max_stream_data = said["window"]
    if said.get("certificate"):
        with tempfile.NamedTemporaryFile("w") as chain, tempfile.NamedTemporaryFile("w") as key:
            chain.write(said["certificate"])
            key.write(said["key"])
            chain.flush()
            key.flush()
            configuration.load_cert_chain(chain.name, key.name)
    host, port = said["to"].rsplit(":", 1)
    quic = QuicConnection(configuration=configuration)
    loop = asyncio.get_running_loop()
    _, client = await loop.create_datagram_endpoint(lambda: Client(quic), local_addr=(said.get("from", "127.0.0.1"), 0))
    client.connect((host, int(port)))
    await client.ready.wait()
    if client.code is not None:
        return {"refused": client.code}
    if not said.get("raw"):
        client.http = H3Connection(quic)
        client.transmit()
    # A server may close a connection that it has only just let in: it does not know the client's certificate before.
    await client.ping_or_end()
    if client.code is not None:
        return {"refused": client.code}
    clients.append(client)
    certificate = quic.tls._peer_certificate
    serial = certificate.serial_number if certificate else None
    # What the other side allows is known only then.
    while client.http and client.http.received_settings is None and not client.ended.is_set():
        await asyncio.sleep(0.01)
    retried = quic._retry_source_connection_id is not None
    settings = client.http.received_settings if client.http else None
    extended = bool(settings and settings.get(0x08))
    return {"client": len(clients) - 1, "serial": str(serial), "retried": retried, "extended": extended}


def half(said):
    """Clients that say their first word and no more. Counts how each was answered first: by a handshake, or by Retry."""
    answers = {"initial": 0, "retry": 0}
    host, port = said["to"].rsplit(":", 1)
    for _ in range(said["count"]):
        configuration = QuicConfiguration(is_client=True, alpn_protocols=["h3"])
        configuration.server_name = said["name"]
        quic = QuicConnection(configuration=configuration)
        quic.connect((host, int(port)), now=time.monotonic())
        wire = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        wire.settimeout(20)
        for data, _ in quic.datagrams_to_send(now=time.monotonic()):
            wire.sendto(data, (host, int(port)))
        answer = wire.recv(2048)
        # RFC 9000, section 17.2.
        answers["retry" if answer[0] >> 4 & 3 == 3 else "initial"] += 1
        wires.append(wire)
    return answers


async def ping_or_end(self):
    ping = asyncio.ensure_future(self.ping())
    ended = asyncio.ensure_future(self.ended.wait())
    await asyncio.wait([ping, ended], return_when=asyncio.FIRST_COMPLETED)
    for task in (ping, ended):
        task.cancel()
        try:
            await task
        except (asyncio.CancelledError, ConnectionError):
            pass


Client.ping_or_end = ping_or_end


async def handle(said):
    match said["do"]:
        case "connect":
            return await connect(said)
        case "half":
            return half(said)
        case "begin":
            # Sends requests, and does not wait for their answers.
            client = clients[said["client"]]
            exchanges = []
            for request in said["requests"]:
                exchange = Exchange(client, request)
                exchange.send()
                exchanges.append(exchange)
            client.transmit()
            return [exchange.stream for exchange in exchanges]
        case "end":
            client = clients[said["client"]]
            await asyncio.gather(*(client.exchanges[stream].over.wait() for stream in said["streams"]))
            client.transmit()
            return [client.exchanges[stream].outcome() for stream in said["streams"]]
        case "progress":
            # Waits until something of an answer is there.
            await clients[said["client"]].exchanges[said["stream"]].progress.wait()
            return {}
        case "cancel":
            client = clients[said["client"]]
            client.exchanges[said["stream"]].cancel()
            client.transmit()
            return {}
        case "send":
            # Bytes on a stream, as they are.
            client = clients[said["client"]]
            data = bytes.fromhex(said["hex"]) if "hex" in said else b"x" * said["bytes"]
            client._quic.send_stream_data(said["stream"], data, end_stream=said.get("end", False))
            client.transmit()
            return {}
        case "open":
            # A stream of its own: bytes, as they are.
            client = clients[said["client"]]
            stream = client._quic.get_next_available_stream_id(is_unidirectional=said["one_way"])
            if not said["one_way"]:
                exchange = Exchange(client, {})
                stream = exchange.stream
            client._quic.send_stream_data(stream, bytes.fromhex(said["hex"]), end_stream=said.get("end", False))
            client.transmit()
            return {"stream": stream}
        case "closed":
            client = clients[said["client"]]
            await client.ended.wait()
            return {"code": client.code, "by_transport": client.transport_failed}
        case "close":
            clients[said["client"]].close(error_code=0x100)
            return {}
        case "stop_reading":
            clients[said["client"]].stop_reading()
            return {}
        case "move":
            # Goes on from another address.
            client = clients[said["client"]]
            loop = asyncio.get_running_loop()
            await loop.create_datagram_endpoint(lambda: client, local_addr=("127.0.0.1", 0))
            return {}
        case "update_keys":
            client = clients[said["client"]]
            client.request_key_update()
            return {}


async def main():
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader(limit=1 << 24)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := await lines.readline():
        print(json.dumps(await handle(json.loads(line))), flush=True)


asyncio.run(main())
