"""A gRPC server and a gRPC client, as people use them, for tests/tests/data_plane/grpc.rs.

The server listens on a free port, which is the first thing printed. Then each line of standard input
is a command in JSON, and each is answered by one line in JSON:

    {"do": "call", "to": "127.0.0.1:1", "ca": PEM or null, "calls": [CALL..]}    all calls at once, on one connection
                    "proxy": "http://127.0.0.1:2" makes it a tunnel, as by the environment of a workload
    {"do": "seen", "count": N}      each call that the server saw, once N have ended there, in the order of their ends
    {"do": "stop"}                  the server is gone, and its port refuses

A CALL is {"method", "messages", "metadata", "timeout", "cancel_after", "lockstep", "cancel_at_once"}; to another server also
{"service", "shape", "compressed"}, where the shape is the method here that is called likewise. Its result is
{"code", "details", "messages", "initial", "trailing"}. A call that was seen is {"metadata", "remaining",
"ended"}: the seconds of its deadline, and "answered", "aborted" or "cancelled". Messages are bytes without
any schema; "filler:N" stands for N bytes that follow a pattern, on the way in and on the way out.

Health checks (`grpc.health.v1.Health/Check`) are answered too, and not seen: `SERVING` for the server as a
whole and for a service whose name begins with "serving", a status for one that begins with its number, and
`NOT_SERVING` or `SERVICE_UNKNOWN` for "not-serving" and "unknown".
"""

import asyncio
import json
import os
import sys

import grpc
import grpc.aio

SERVICE = "naru.Test"
HEALTH = "grpc.health.v1.Health"
OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # A call that fails says so at once, instead of trying to connect again and again.
    ("grpc.enable_retries", 0),
]
# The name that the certificates of the tests are for.
NAME = "naru.test"
UNARY = ("Echo", "Meet", "Wait", "Fail")
FILLER_MIN = 256


def filler(size):
    return bytes((i * i + i // 251) % 256 for i in range(4096)) * (size // 4096) + b"-" * (size % 4096)


def encode(text):
    return filler(int(text[7:])) if text.startswith("filler:") else text.encode()


def decode(message):
    if len(message) >= FILLER_MIN:
        return f"filler:{len(message)}" if message == filler(len(message)) else "another filler"
    return message.decode()


def pairs(metadata):
    return [[key, value.hex() if isinstance(value, bytes) else value] for key, value in metadata or ()]


class Server:
    """What it is asked for, and how each call ended here."""

    def __init__(self):
        self.ended = []
        self.met = 0
        self.change = asyncio.Condition()
        self.server = grpc.aio.server(options=OPTIONS)
        handlers = {
            "Echo": grpc.unary_unary_rpc_method_handler(self.watched(self.echo)),
            "Meet": grpc.unary_unary_rpc_method_handler(self.watched(self.meet)),
            "Wait": grpc.unary_unary_rpc_method_handler(self.watched(self.wait)),
            "Fail": grpc.unary_unary_rpc_method_handler(self.watched(self.fail)),
            "Join": grpc.stream_unary_rpc_method_handler(self.watched(self.join)),
            "Spread": grpc.unary_stream_rpc_method_handler(self.watched_stream(self.spread)),
            "Chat": grpc.stream_stream_rpc_method_handler(self.watched_stream(self.chat)),
            "Count": grpc.stream_unary_rpc_method_handler(self.watched(self.count)),
            "Sizes": grpc.unary_stream_rpc_method_handler(self.watched_stream(self.sizes)),
            "Talk": grpc.stream_stream_rpc_method_handler(self.watched_stream(self.talk)),
        }
        self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        health = {"Check": grpc.unary_unary_rpc_method_handler(self.check)}
        self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(HEALTH, health),))
        self.port = self.server.add_insecure_port("127.0.0.1:0")

    async def end(self, context, remaining, how):
        seen = {"metadata": pairs(context.invocation_metadata()), "remaining": remaining, "ended": how}
        async with self.change:
            self.ended.append(seen)
            self.change.notify_all()

    def watched(self, answer):
        async def watch(request, context):
            remaining = context.time_remaining()
            how = "cancelled"
            try:
                result = await answer(request, context)
                how = "answered"
                return result
            except grpc.aio.AbortError:
                how = "aborted"
                raise
            finally:
                await asyncio.shield(self.end(context, remaining, how))

        return watch

    def watched_stream(self, answer):
        async def watch(request, context):
            remaining = context.time_remaining()
            how = "cancelled"
            try:
                async for message in answer(request, context):
                    yield message
                how = "answered"
            except grpc.aio.AbortError:
                how = "aborted"
                raise
            finally:
                await asyncio.shield(self.end(context, remaining, how))

        return watch

    async def seen(self, count):
        async with self.change:
            await self.change.wait_for(lambda: len(self.ended) >= count)
            return self.ended

    async def echo(self, request, context):
        """The message, the metadata that begins with `x-` at the head, and `x-end` at the end."""
        mine = [(key, value) for key, value in context.invocation_metadata() if key.startswith("x-mine")]
        await context.send_initial_metadata(mine)
        context.set_trailing_metadata([("x-end", "of the call"), ("x-end-bin", b"\x00\xff")])
        return request

    async def meet(self, request, _context):
        """Once so many calls are here at the same time."""
        async with self.change:
            self.met += 1
            self.change.notify_all()
            await self.change.wait_for(lambda: self.met >= int(request))
        return b"met"

    async def wait(self, _request, _context):
        """Until nobody waits any more."""
        await asyncio.Event().wait()

    async def fail(self, request, context):
        """With the status that the message names: there is nothing but a head."""
        number, details = request.decode().split(" ", 1)
        code = next(code for code in grpc.StatusCode if code.value[0] == int(number))
        await context.abort(code, details, (("x-why", "asked to"),))

    async def check(self, request, context):
        """Both messages have one field: a name, in the first, and a number, in the second."""
        field, length, shift, at = request[:1], 0, 0, 1
        while request and (shift == 0 or request[at - 1] & 0x80):
            length, shift, at = length | (request[at] & 0x7F) << shift, shift + 7, at + 1
        service = request[at:].decode()
        assert (field, length) == (b"\x0a" if service else b"", len(service)), request
        word = service.split(" ", 1)[0]
        if word.isdigit() and int(word) > 0:
            code = next(code for code in grpc.StatusCode if code.value[0] == int(word))
            await context.abort(code, service)
        statuses = {"": b"\x08\x01", "serving": b"\x08\x01", "not-serving": b"\x08\x02", "unknown": b"\x08\x03"}
        return statuses.get(word, b"")

    async def join(self, requests, _context):
        return b"+".join([message async for message in requests])

    async def spread(self, request, context):
        """So many messages, without end where it says `endless`; `and fail` ends them with a status."""
        words = request.decode().split(" ", 1)
        count = 0
        while words[0] == "endless" or count < int(words[0]):
            count += 1
            yield str(count).encode()
        if len(words) > 1:
            await context.abort(grpc.StatusCode.DATA_LOSS, "failed as told: 100 % of é")

    async def chat(self, requests, _context):
        """Each message at once; the last one must be `end`."""
        message = b""
        async for message in requests:
            yield b"re: " + message
        if message != b"end":
            # A call that is cancelled looks as if there were no more messages.
            await asyncio.Event().wait()

    async def count(self, requests, _context):
        """How many bytes all messages have."""
        return str(sum([len(message) async for message in requests])).encode()

    async def sizes(self, request, _context):
        """A message of each size."""
        for size in request.split():
            yield filler(int(size))

    async def talk(self, requests, _context):
        """Each message as it came."""
        async for message in requests:
            yield message


async def numbered(messages):
    for message in messages:
        yield message


async def call_once(channel, call):
    method = f"/{call.get('service', SERVICE)}/{call['method']}"
    messages = [encode(message) for message in call.get("messages", [""])]
    settings = {"metadata": [tuple(pair) for pair in call.get("metadata", [])], "timeout": call.get("timeout")}
    settings["metadata"].append(("x-mine-bin", b"\x01\xfe"))
    cancel_after = call.get("cancel_after")
    received = []
    if call.get("compressed"):
        settings["compression"] = grpc.Compression.Gzip
    # The method of this server that has the same shape.
    shape = call.get("shape", call["method"])
    if shape in UNARY:
        under_way = channel.unary_unary(method)(messages[0], **settings)
    elif shape in ("Join", "Count"):
        under_way = channel.stream_unary(method)(numbered(messages), **settings)
    elif shape in ("Spread", "Sizes"):
        under_way = channel.unary_stream(method)(messages[0], **settings)
    elif call.get("lockstep"):
        under_way = channel.stream_stream(method)(**settings)
    else:
        under_way = channel.stream_stream(method)(numbered(messages), **settings)
    try:
        if call.get("cancel_at_once"):
            # The call is there, and nothing of it was sent but its head.
            await asyncio.sleep(0)
            under_way.cancel()
        if shape in (*UNARY, "Join", "Count"):
            received.append(await under_way)
        elif call.get("lockstep"):
            for message in messages:
                await under_way.write(message)
                received.append(await under_way.read())
                if len(received) == cancel_after:
                    under_way.cancel()
            await under_way.done_writing()
            assert await under_way.read() is grpc.aio.EOF
        else:
            async for message in under_way:
                received.append(message)
                if len(received) == cancel_after:
                    under_way.cancel()
    except (grpc.aio.AioRpcError, asyncio.CancelledError, asyncio.InvalidStateError):
        # How it ended is asked below.
        pass
    code = await under_way.code()
    return {
        "code": code.name,
        "details": await under_way.details(),
        "messages": [decode(message) for message in received],
        "initial": pairs(await under_way.initial_metadata()),
        "trailing": pairs(await under_way.trailing_metadata()),
    }


async def call_all(command):
    options = list(OPTIONS)
    for name in ("grpc_proxy", "https_proxy", "http_proxy", "no_grpc_proxy", "no_proxy"):
        os.environ.pop(name, None)
    if command.get("proxy"):
        os.environ["http_proxy"] = command["proxy"]
    if command.get("ca") is None:
        channel = grpc.aio.insecure_channel(command["to"], options)
    else:
        credentials = grpc.ssl_channel_credentials(command["ca"].encode())
        options.append(("grpc.ssl_target_name_override", NAME))
        channel = grpc.aio.secure_channel(command["to"], credentials, options)
    async with channel:
        return await asyncio.gather(*[call_once(channel, call) for call in command["calls"]])


async def main():
    server = Server()
    await server.server.start()
    print(json.dumps({"port": server.port}), flush=True)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        command = json.loads(line)
        if command["do"] == "call":
            answer = await call_all(command)
        elif command["do"] == "seen":
            answer = await server.seen(command["count"])
        else:
            await server.server.stop(0)
            answer = None
        print(json.dumps(answer), flush=True)
    await server.server.stop(0)


asyncio.run(main())
