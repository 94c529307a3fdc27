"""Who attacks, and with what: loaded by schemathesis (SCHEMATHESIS_HOOKS).

$ROLE says whether the attacker is a member or an administrator. What ends the attacker's own session is attacked by a fresh
account each time. Of the requests that are valid by the document, every second one names members and messages that exist:
with random ids, nothing but 404 would ever come back. What came back is written to $STATUSES, one operation a line; that
an operation that the attacker may use never worked is an error.
"""

import atexit
import itertools
import os
import struct
import zlib
from collections import Counter, defaultdict
from datetime import datetime, timedelta, timezone

import requests
import schemathesis

BASE = os.environ["BASE_URL"]
ROLE = os.environ["ROLE"]
# What ends the session that it is asked with, changes what the attacker logs in with, or is tried ten times an hour by a member.
WANTS_A_FRESH_ACCOUNT = {"log_out", "erase_own_record", "change_password", "begin_second_factor", "step_up"}

# What is not meant to work: a member is no administrator, a plain request is no upgrade, the club is set up already, nobody waits, nobody
# reads the mails that links are in, and nobody has an authenticator app.
NEVER_WORKS = {
    "open_socket", "set_up", "admin_reject_member", "reset_password", "verify_email",
    "confirm_second_factor", "replace_recovery_codes", "disable_second_factor",
}
PREFIX_FOR_ADMINS = "admin_"

statuses = defaultdict(Counter)
numbers = itertools.count(1)
requests_made = itertools.count()
seen = Counter()
http = requests.Session()


def ask(method, path, token=None, **body):
    """A request that has to succeed."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    response = http.request(method, BASE + path, json=body or None, headers=headers, timeout=20)
    response.raise_for_status()
    return response.json()


def png():
    """A small picture."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    header = struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0)
    rows = zlib.compress((b"\0" + bytes(range(8))) * 8)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def log_in(email, password):
    """The answer of a login."""
    return ask("POST", "/api/auth/login", email=email, password=password)


def register(name, role="member"):
    """A new account with this role."""
    email = f"{ROLE}.{next(numbers)}@example.com"
    account = ask("POST", "/api/auth/register", name=name, email=email, password="correct horse")
    if role == "admin":
        ask("PUT", f"/api/admin/members/{account['member']['_id']}/role", root, user_type="admin")
    return account


root_account = log_in(os.environ["ADMIN_EMAIL"], os.environ["ADMIN_PASSWORD"])
root = root_account["access_token"]
attacker = register("Attacker", ROLE)
attacker_id = attacker["member"]["_id"]


def session_of(token):
    """The id of the session that a token is of."""
    sessions = ask("GET", "/api/members/me/sessions", token)["sessions"]
    return next(session["_id"] for session in sessions if session["is_current"])


attacker_session = session_of(attacker["access_token"])
# A name and an address with everything that is hard about text.
others = [register(name) for name in ("Ana Lima", "Bén Ünïcode 🎩", "'; DROP TABLE members; --")]
other_ids = [other["member"]["_id"] for other in others]
# Whom an administrator may deactivate. Schemathesis uses ids that it has seen in answers too, and who demotes themselves
# attacks no further.
victim_ids = [register(f"Victim {n}")["member"]["_id"] for n in range(3)]
protected = {attacker_id, root_account["member"]["_id"], *other_ids}
# They have written to the attacker, who has not read it.
messages = [
    ask("POST", "/api/messages", other["access_token"], receiver_id=attacker_id, content=f"Message {n}",
        client_id=f"00000000-0000-7000-8000-{next(numbers):012}")
    for n in range(3)
    for other in others
]

# One that many may come by, and some of the attacker's own.
invitation = ask("POST", "/api/invitations", root, uses=1000)
own_invitations = [ask("POST", "/api/invitations", attacker["access_token"], note=f"Own {n}") for n in range(3)]

pictured = register("Pictured")
protected.add(pictured["member"]["_id"])


def photo():
    """The file of a photo that is there now; an administrator may have replaced or removed the one before."""
    uploaded = http.put(
        f"{BASE}/api/members/{pictured['member']['_id']}/photo", data=png(), timeout=20,
        headers={"Authorization": f"Bearer {pictured['access_token']}", "Content-Type": "image/png"},
    )
    uploaded.raise_for_status()
    return uploaded.json()["profile_image_url"].rpartition("/")[2]


@schemathesis.auth(refresh_interval=None)
class Attacker:
    """Signs every request that needs it."""

    def get(self, case, context):
        if context.operation.definition.raw.get("operationId") in WANTS_A_FRESH_ACCOUNT:
            return register("Leaver", ROLE)["access_token"]
        return attacker["access_token"]

    def set(self, case, data, context):
        case.headers["Authorization"] = f"Bearer {data}"


@schemathesis.hook
def before_call(context, case, kwargs):
    """Puts things that exist into every second valid request."""
    operation = context.operation.definition.raw.get("operationId")
    if operation.startswith(PREFIX_FOR_ADMINS) and (case.path_parameters or {}).get("id") in protected:
        case.path_parameters["id"] = victim_ids[0]
    # Seen in an answer: whoever ends that attacks no further.
    if operation == "end_session" and (case.path_parameters or {}).get("id") == attacker_session:
        case.path_parameters["id"] = attacker_id
    # Hardly any version is the right one, and what is behind that check is to be attacked too.
    if next(requests_made) % 4:
        case.headers.pop("If-Match", None)
    if case.meta is None or case.meta.generation.mode.is_negative:
        return
    seen[operation] += 1
    turn, odd = divmod(seen[operation], 2)
    if odd:
        return
    other = others[turn % len(others)]
    for name in case.path_parameters or {}:
        case.path_parameters[name] = existing(operation, turn)
    body = case.body
    if operation == "upload_photo":
        case.body = png()
    if not isinstance(body, dict):
        return
    if operation == "register":
        # One that was made up is refused.
        body = {name: value for name, value in body.items() if name != "invitation"}
        case.body = {**body, "email": f"{ROLE}.{next(numbers)}@example.com"}
    elif operation == "check_invitation":
        case.body = {"code": invitation["code"]}
    elif operation == "create_invitation" and ROLE != "admin":
        case.body = {name: value for name, value in body.items() if name not in {"tier", "uses"}}
    elif operation == "admin_suspend_member":
        case.body = {**body, "until": (datetime.now(timezone.utc) + timedelta(hours=1)).isoformat(timespec="milliseconds")}
    elif operation == "log_in":
        case.body = {**body, "email": other["member"]["email"], "password": "correct horse"}
    elif operation == "refresh_tokens":
        case.body = {**body, "refresh_token": register("Refresher")["refresh_token"]}
    elif operation == "send_message":
        body = {name: value for name, value in body.items() if name != "conversation_id"}
        case.body = {**body, "receiver_id": other["member"]["_id"]}


def existing(operation, turn):
    """Something that exists, for a parameter of the path."""
    if operation == "mark_message_read":
        return messages[turn % len(messages)]["_id"]
    if operation == "configure_conversation":
        return messages[turn % len(messages)]["conversation_id"]
    if operation == "revoke_invitation":
        return own_invitations[turn % len(own_invitations)]["invitation"]["_id"]
    if operation == "get_photo":
        return photo()
    if operation == "rename_session":
        return attacker_session
    if operation == "end_session":
        return session_of(log_in(attacker["member"]["email"], "correct horse")["access_token"])
    if operation in {"replace_member", "change_member", "upload_photo", "remove_photo"} and turn % 2:
        return attacker_id
    ids = victim_ids if operation.startswith(PREFIX_FOR_ADMINS) else other_ids
    return ids[turn % len(ids)]


@schemathesis.hook
def after_call(context, case, response):
    """Counts what came back."""
    # Other methods are tried too; the answer to OPTIONS is that of CORS.
    if case.method.lower() == context.operation.method.lower():
        statuses[context.operation.definition.raw.get("operationId")][response.status_code] += 1


def may_work(operation):
    """Whether the attacker may use it."""
    return operation not in NEVER_WORKS and (ROLE == "admin" or not operation.startswith(PREFIX_FOR_ADMINS))


@atexit.register
def report():
    """Writes what came back."""
    with open(os.environ["STATUSES"], "w", encoding="utf-8") as file:
        for operation, counts in sorted(statuses.items()):
            if may_work(operation) and not any(200 <= status < 300 for status in counts):
                file.write("NEVER WORKED: ")
            counted = ", ".join(f"{status} × {count}" for status, count in sorted(counts.items()))
            file.write(f"{operation}: {counted}\n")
