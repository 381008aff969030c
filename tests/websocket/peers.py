"""A client and a server of WebSocket that have nothing to do with naru: the package websockets. It is told what to do by
lines of JSON, and answers by lines of JSON. The first line says where the server listens. What they say to each other
is the same as in `peers.mjs`."""

import asyncio
import json
import ssl
import sys

from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

BYTES_MAX = 64 << 20
PROTOCOL = "echo"


async def echo(connection):
    """Echoes; "close CODE WHY" has it close."""
    try:
        async for message in connection:
            if isinstance(message, str) and message.startswith("close "):
                _, code, why = message.split(" ", 2)
                return await connection.close(int(code), why)
            await connection.send(message)
    except ConnectionClosed:
        pass


def target(said):
    context = None
    if said["ca"]:
        context = ssl.create_default_context(cadata=said["ca"])
    host, port = said["to"].rsplit(":", 1)
    scheme = "wss" if context else "ws"
    more = {"ssl": context, "server_hostname": said["name"]} if context else {}
    return f"{scheme}://{said['name']}/chat?room=1", {"host": host, "port": int(port), **more}


async def talk(said):
    """Each size as a text and as bytes, whole and in pieces; a ping; the end by the one who is to close."""
    uri, where = target(said)
    told = {"echoed": 0, "pongs": 0}
    async with connect(uri, max_size=BYTES_MAX, subprotocols=[PROTOCOL], **where) as connection:
        told["protocol"] = connection.subprotocol
        told["compressed"] = bool(connection.protocol.extensions)
        for size in said["sizes"]:
            for whole in ["☺" * (size // 3) + "x" * (size % 3), bytes(i % 251 for i in range(size))]:
                pieces = [whole[: size // 4], whole[size // 4 : size // 2], whole[size // 2 :]]
                for message in [whole, pieces]:
                    await connection.send(message)
                    told["echoed"] += await connection.recv() == whole
            await (await connection.ping(b"are you?"))
            told["pongs"] += 1
        if said["client_closes"]:
            await connection.close(4001, "enough ☺")
        else:
            await connection.send("close 4002 no more ☺")
            try:
                await connection.recv()
            except ConnectionClosed:
                pass
    return {**told, "code": connection.close_code, "reason": connection.close_reason}


def select(_connection, offered):
    return PROTOCOL if PROTOCOL in offered else None


async def main():
    async with serve(echo, "127.0.0.1", 0, max_size=BYTES_MAX, select_subprotocol=select) as server:
        print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
        loop = asyncio.get_running_loop()
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            try:
                told = await talk(json.loads(line))
            except Exception as error:
                told = {"error": repr(error)}
            print(json.dumps(told), flush=True)


asyncio.run(main())
