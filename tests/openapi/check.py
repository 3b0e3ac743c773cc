"""Every answer of examples/openapi.rs is as documented: its status, media type, headers and body.

    python check.py http://127.0.0.1:3000/openapi.json

Run by `cargo xtask test`, which installs schemathesis (see requirements.txt) and starts the example with `--faults`.
"""

import itertools
import sys
import threading
import uuid

import hypothesis
import requests
import schemathesis
from schemathesis import GenerationMode
from schemathesis.specs.openapi import checks

CHECKS = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]

# What a server says of any message, and a documentation need not.
OF_ANY_MESSAGE = {"allow", "connection", "content-length", "content-type", "date", "transfer-encoding", "vary"}

SETTINGS = hypothesis.settings(
    max_examples=100,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=list(hypothesis.HealthCheck),
)

url = sys.argv[1]
base = url.removesuffix("/openapi.json")
schema = schemathesis.openapi.from_url(url)
document = requests.get(url, timeout=10).json()
payments, listing = schema["/payments"]["POST"], schema["/payments"]["GET"]
keys = (str(uuid.uuid4()) for _ in itertools.count())
seen = set()


def undocumented_headers(operation, response):
    """schemathesis looks for documented headers that are missing or wrong, and not for others."""
    responses = document["paths"][operation.path][operation.method.lower()]["responses"]
    documented = responses.get(str(response.status_code), {}).get("headers", {})
    documented = {name.lower() for name in documented}
    return {name.lower() for name in response.headers} - documented - OF_ANY_MESSAGE


def send(operation, case):
    response = case.call(base_url=base, timeout=30)
    if response.status_code == 405 and case.method.upper() not in ("GET", "POST"):
        # Another operation's answer: this one does not have the method.
        return response
    case.validate_response(response, checks=CHECKS)
    unknown = undocumented_headers(operation, response)
    assert not unknown, f"undocumented headers of a {response.status_code}: {unknown}"
    code = None
    if response.headers.get("content-type") == ["application/problem+json"]:
        code = response.json()["code"]
    seen.add((response.status_code, code, "idempotent-replayed" in response.headers))
    return response


def pay(key, body, media_type="application/json", **headers):
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    if key is not None:
        headers["Idempotency-Key"] = key
    return send(payments, payments.Case(headers=headers, body=body, media_type=media_type))


def fuzz(operation, mode):
    """Requests that the documentation allows, or does not allow, and a retry of each."""

    @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
    @SETTINGS
    def run(case):
        first = send(operation, case)
        again = send(operation, case)
        # What is documented as a key and as a payment is accepted as such.
        assert mode is GenerationMode.NEGATIVE or first.status_code not in (400, 415), first.text
        if first.status_code < 300 and case.method.upper() == "POST":
            assert again.status_code == first.status_code
            assert again.content == first.content

    run()


def provoke():
    """Each answer that needs a situation and not only a request."""
    key = next(keys)
    first, replay = pay(key, {"amount": 1}), pay(key, {"amount": 1})
    assert first.content == replay.content
    pay(key, {"amount": 2})
    for outcome in ("decline", "crash"):
        key = next(keys)
        for _ in range(2):
            pay(key, {"amount": 1, "network": outcome})
    # Two at the same time.
    key = next(keys)
    failed = []

    def run():
        try:
            pay(key, {"amount": 1, "network": "slow"})
        except BaseException as error:  # noqa: BLE001: raised below, in the main thread
            failed.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    pay(next(keys), {"amount": 1}, X_Fault="store")
    # No key, and one that is none.
    pay(None, {"amount": 1})
    pay('"open', {"amount": 1})


def raw():
    """What schemathesis does not send: bodies that are not JSON, or too much of it."""
    for body, media_type in [(b"{", "application/json"), (b"{}", "text/plain"), (b"{}", "application/json"), (b" " * 3_000_000, "application/json")]:
        headers = {"Idempotency-Key": next(keys), "Content-Type": media_type}
        response = requests.post(f"{base}/payments", data=body, headers=headers, timeout=30)
        case = payments.Case(headers={"Idempotency-Key": "key"}, body={"amount": 1}, media_type="application/json")
        case.validate_response(response, checks=CHECKS)
        unknown = undocumented_headers(payments, response)
        assert not unknown, f"undocumented headers of a {response.status_code}: {unknown}"
        seen.add((response.status_code, None, False))


EXPECTED = {
    (200, None, False),
    (201, None, False),
    (201, None, True),
    (400, "missing-key", False),
    (400, "invalid-key", False),
    (400, None, False),
    (402, None, False),
    (402, None, True),
    (409, "in-flight", False),
    (413, None, False),
    (415, None, False),
    (422, "key-reused", False),
    (422, None, False),
    (500, "handler-failed", False),
    (500, "handler-failed", True),
    (503, "store-unavailable", False),
}

provoke()
raw()
fuzz(listing, GenerationMode.POSITIVE)
fuzz(payments, GenerationMode.POSITIVE)
fuzz(payments, GenerationMode.NEGATIVE)
missing = EXPECTED - seen
assert not missing, f"not provoked: {missing}"
print(f"{len(seen)} kinds of answers, all documented: {sorted(seen, key=str)}")
