"""A client of gRPC that resolves xds:///SERVICE, as people use it, for tests/tests/control_plane/grpc.rs.

Each line of standard input is a command in JSON, and each is answered by one line in JSON:

    {"do": "begin", "bootstrap": BOOTSTRAP}                          what GRPC_XDS_BOOTSTRAP_CONFIG says
    {"do": "call", "to": "xds:///reviews:80", "count": N, "metadata": [[NAME, VALUE]..]}

The answer to calls is {"by": {WORKLOAD: calls..}, "codes": {CODE: calls..}, "why": the last that failed}; who answered
stands in the metadata of the answer, as `x-workload`.
"""

import json
import os
import sys

CHANNELS = {}
AT_A_TIME = 50


def call(command):
    import grpc

    to = command["to"]
    if to not in CHANNELS:
        CHANNELS[to] = grpc.insecure_channel(to)
    echo = CHANNELS[to].unary_unary("/naru.Test/Echo", None, None)
    metadata = [tuple(pair) for pair in command.get("metadata", ())]
    by, codes, why = {}, {}, None
    left = command["count"]
    while left > 0:
        batch = min(left, AT_A_TIME)
        left -= batch
        for answer in [echo.future(b"hello", timeout=20, metadata=metadata) for _ in range(batch)]:
            code = answer.code().name
            codes[code] = codes.get(code, 0) + 1
            if code == "OK":
                who = dict(answer.initial_metadata()).get("x-workload", "nobody")
                by[who] = by.get(who, 0) + 1
            else:
                why = answer.details()
    return {"by": by, "codes": codes, "why": why}


def main():
    for line in sys.stdin:
        command = json.loads(line)
        if command["do"] == "begin":
            os.environ["GRPC_XDS_BOOTSTRAP_CONFIG"] = json.dumps(command["bootstrap"])
            answer = {}
        else:
            answer = call(command)
        print(json.dumps(answer), flush=True)


main()
