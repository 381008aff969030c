"""A rate limit service with Envoy's own messages, for tests/tests/data_plane.

It speaks gRPC (`envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit`) on a free port, which is the first thing
printed: {"grpc": port}. Then each line of standard input is a command in JSON, answered by one line:

    {"take": N}     what was asked since the last time, as soon as it is N questions or more

What it answers stands in the entry `do` of the descriptors; without one they are within their limits:

    over        over the limit, with what is left of two      more        the same within the limits
    plain       over the limit, and nothing else              unknown     no code at all
    body        over the limit, with headers and a body       ok          within, with headers for both sides
    error       gRPC's UNAVAILABLE                            slow        nothing for 30 s
    one         within, with what is left of one limit        frame       headers that frame a message
"""

import json
import sys
import threading
import time
from concurrent import futures

import grpc
from envoy.config.core.v3 import base_pb2 as core
from envoy.service.ratelimit.v3 import rls_pb2 as rls
from envoy.service.ratelimit.v3 import rls_pb2_grpc as service
from google.protobuf.json_format import MessageToDict
from google.protobuf.unknown_fields import UnknownFieldSet

SEEN = []
CHANGED = threading.Condition()
OK, OVER = rls.RateLimitResponse.OK, rls.RateLimitResponse.OVER_LIMIT


def header(name, value):
    return core.HeaderValue(key=name, value=value)


def status(code, left, per, unit, reset, name=""):
    said = rls.RateLimitResponse.DescriptorStatus(code=code, limit_remaining=left)
    said.current_limit.requests_per_unit = per
    said.current_limit.unit = unit
    said.current_limit.name = name
    said.duration_until_reset.seconds = reset
    return said


def told(request):
    """The descriptors, with what this version of the messages has no word for."""
    for descriptor in request.descriptors:
        said = MessageToDict(descriptor)
        for field in UnknownFieldSet(descriptor):
            said[f"field {field.field_number}"] = field.data
        yield said


class Service(service.RateLimitServiceServicer):
    def ShouldRateLimit(self, request, context):
        entries = [(entry.key, entry.value) for one in request.descriptors for entry in one.entries]
        metadata = sorted(
            [key, value] for key, value in context.invocation_metadata() if key in ("x-initial", "content-type")
        )
        with CHANGED:
            SEEN.append(
                {
                    "domain": request.domain,
                    "hits": request.hits_addend,
                    "descriptors": list(told(request)),
                    "call": metadata,
                }
            )
            CHANGED.notify_all()
        do = dict(entries).get("do", "")
        answer = rls.RateLimitResponse(overall_code=OK)
        if do in ("over", "more"):
            answer.overall_code = OVER if do == "over" else OK
            unit = rls.RateLimitResponse.RateLimit
            answer.statuses.extend(
                [
                    status(answer.overall_code, 0, 10, unit.MINUTE, 30, "per-ip"),
                    status(OK, 7, 1000, unit.HOUR, 40),
                    status(OVER, 9, 4, unit.UNKNOWN, 70),
                    rls.RateLimitResponse.DescriptorStatus(code=OK, limit_remaining=0),
                    status(OK, 8, 70, unit.DAY, 5, "day"),
                ]
            )
        elif do == "plain":
            answer.overall_code = OVER
        elif do == "unknown":
            answer.overall_code = rls.RateLimitResponse.UNKNOWN
        elif do == "body":
            answer.overall_code = OVER
            answer.raw_body = b'{"why": "too many"}'
            answer.response_headers_to_add.extend(
                [
                    header("content-type", "application/json"),
                    header("x-told", "one"),
                    header("x-told", "two"),
                    header("retry-after", "7"),
                ]
            )
        elif do == "ok":
            answer.response_headers_to_add.extend([header("x-told", "one"), header("x-told", "two")])
            answer.request_headers_to_add.extend([header("x-user", "me"), header("x-user", "you")])
        elif do == "error":
            context.abort(grpc.StatusCode.UNAVAILABLE, "no")
        elif do == "slow":
            time.sleep(30)
        elif do == "frame":
            for name in ("content-length", "transfer-encoding", "connection", "host"):
                answer.request_headers_to_add.append(header(name, "7"))
        elif do == "one":
            answer.statuses.append(status(OK, 2, 3, rls.RateLimitResponse.RateLimit.MINUTE, 60))
        return answer


def main():
    calls = grpc.server(futures.ThreadPoolExecutor(max_workers=16))
    service.add_RateLimitServiceServicer_to_server(Service(), calls)
    port = calls.add_insecure_port("127.0.0.1:0")
    calls.start()
    print(json.dumps({"grpc": port}), flush=True)
    for line in sys.stdin:
        count = json.loads(line)["take"]
        with CHANGED:
            CHANGED.wait_for(lambda: len(SEEN) >= count, timeout=60)
            taken, SEEN[:] = list(SEEN), []
        print(json.dumps(taken), flush=True)


main()
