#!/usr/bin/env python3
"""Measures whether the time of an answer tells who is a member.

Starts a server of its own on an SQLite file, with a mail server beside it that takes everything, and asks it the same about addresses of
every kind: in rounds, each kind once a round, in random order, over one connection. Prints the median of each kind, how far it is from
that of the first kind, and between which bounds that is with a confidence of 95 % (bootstrap of whole rounds, so that what slows a round
down counts for every kind); and the same of the tenth that was fastest, which is what somebody looks at who wants to see through what else
the machine does. Needs nothing but Python.

    cargo build --release
    tests/attack/timing.py --rounds 300 --cost 8
    tests/attack/timing.py --rounds 300 --cost 8 --seconds 40

A lower cost makes differences larger in proportion; the default of the server is 12. Exits with 1 if a difference of medians is certainly
more than the bound (5 %): if all of the interval lies beyond it, on the same side, each of three times. Anything else that runs on the
machine widens the bounds: run it on one that is idle. With --seconds, which is the short form of tests/run.sh, what is measured ends as soon
as every interval lies within the bound, or when its share of the time is over; an interval that is too wide by then is printed, and is no
failure.
"""

import argparse
import json
import os
import random
import re
import socket
import socketserver
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PASSWORD = "correct horse battery"
RESAMPLES = 2_000
# As many are enough to see whether it may end, which is looked at after so many rounds each time.
GLANCES, GLANCE = 300, 20
# Wrong passwords that an account takes before it makes whoever tries wait.
TRIES = 10
WARM_UP = 10
# How often a difference is measured before it counts as one.
TIMES = 3
# How many kinds of addresses are asked about, all in all: so is the time shared.
KINDS = 27


class Sink(socketserver.StreamRequestHandler):
    """Takes every mail, and writes whom it is for and the token in it to a file."""

    file = None

    def handle(self):
        self.say("220 sink")
        to, text, in_text = "", [], False
        for line in self.rfile:
            line = line.decode("utf-8", "replace").rstrip("\r\n")
            if in_text:
                if line == ".":
                    in_text = False
                    found = re.search(r"\?token=(?:3D)?([A-Za-z0-9_-]+)", "".join(part.removesuffix("=") for part in text))
                    print(json.dumps({"to": to, "token": found and found[1]}), file=Sink.file, flush=True)
                    self.say("250 taken")
                else:
                    text.append(line)
                continue
            word = line.split(" ")[0].upper()
            if word == "RCPT":
                to = re.search(r"<([^>]*)>", line)[1].lower()
            if word == "DATA":
                text, in_text = [], True
                self.say("354 go on")
            elif word == "QUIT":
                return self.say("221 bye")
            else:
                self.say("250 ok")

    def say(self, line):
        self.wfile.write(f"{line}\r\n".encode())


def sink(path):
    """Runs the mail server until the process is ended, and prints its port."""
    Sink.file = open(path, "a")
    socketserver.ThreadingTCPServer.daemon_threads = True
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Sink) as server:
        print(server.server_address[1], flush=True)
        server.serve_forever()


class Server:
    """A server of our own, on one folder and port whatever its settings are."""

    def __init__(self, binary, folder):
        self.binary, self.folder, self.child, self.socket = binary, folder, None, None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.settings = {name: "0" for name in ("RATE_LOGINS", "RATE_REGISTRATIONS", "RATE_REQUESTS", "RATE_ADDRESS", "RATE_PROFILES")}
        self.settings |= {
            "PORT": str(self.port), "HOST": "127.0.0.1", "DATA_DIR": ".", "DATABASE_URL": "sqlite:./timing.db",
            "METRICS_ADDR": "off", "LOG": "error", "REGISTRATION": "open",
        }

    def environment(self, more):
        return {**os.environ, **self.settings, **more}

    def make_admin(self):
        command = [self.binary, "admin", "create", "--name", "Root", "--email", "root@example.com"]
        subprocess.run(command, input=PASSWORD + "\n", text=True, check=True, cwd=self.folder, stdout=subprocess.DEVNULL,
                       env=self.environment({"BCRYPT_COST": "4"}))

    def start(self, **more):
        self.stop()
        with open(Path(self.folder) / "server.log", "ab") as log:
            self.child = subprocess.Popen([self.binary], cwd=self.folder, env=self.environment(more), stdout=log, stderr=log)
        while True:
            if self.child.poll() is not None:
                sys.exit(f"the server did not start: {(Path(self.folder) / 'server.log').read_text()[-2000:]}")
            try:
                self.socket = socket.create_connection(("127.0.0.1", self.port))
                self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return
            except ConnectionRefusedError:
                time.sleep(0.02)

    def stop(self):
        if self.socket:
            self.socket.close()
            self.socket = None
        if self.child:
            self.child.terminate()
            self.child.wait()
            self.child = None

    def ask(self, method, path, body=None, token=None):
        """Sends a request: status, document, and how long the answer took in milliseconds."""
        content = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {len(content)}\r\n"
        if token:
            head += f"authorization: Bearer {token}\r\n"
        request = head.encode() + b"\r\n" + content
        started = time.perf_counter_ns()
        self.socket.sendall(request)
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += self.received()
        head, _, content = answer.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        while length and len(content) < int(length[1]):
            content += self.received()
        took = (time.perf_counter_ns() - started) / 1e6
        return int(head.split()[1]), json.loads(content) if content else None, took

    def received(self):
        part = self.socket.recv(65_536)
        if not part:
            sys.exit("the server has closed the connection")
        return part

    def must(self, wanted, method, path, body=None, token=None):
        status, document, _ = self.ask(method, path, body, token)
        if status != wanted:
            sys.exit(f"{method} {path}: {status} {document}")
        return document


class Club:
    """A server with addresses of every kind."""

    def __init__(self, server, smtp_port, mails, cost, each):
        self.server, self.mails, self.each = server, mails, each
        server.make_admin()
        # From before BCRYPT_COST was changed.
        for kind, other in (("cheaper", max(4, cost - 2)), ("dearer", cost + 1)):
            server.start(BCRYPT_COST=str(other))
            self.register(kind, 201)
        server.start(BCRYPT_COST=str(cost))
        admin = self.log_in_as("root@example.com")
        for kind in ("member", "linked", "reset"):
            self.register(kind, 201)
        for kind in ("deactivated", "suspended", "erased"):
            for member in self.register(kind, 201):
                path = f"/api/admin/members/{member['member']['_id']}"
                if kind == "deactivated":
                    server.must(200, "PUT", f"{path}/active", {"is_active": False}, admin)
                elif kind == "suspended":
                    until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 86_400))
                    server.must(200, "PUT", f"{path}/suspension", {"until": until, "reason": "x"}, admin)
                else:
                    server.must(204, "DELETE", "/api/members/me", None, member["access_token"])
        server.start(BCRYPT_COST=str(cost), REGISTRATION="approval")
        self.register("pending", 202)
        self.final = {
            "BCRYPT_COST": str(cost), "SMTP_URL": f"smtp://127.0.0.1:{smtp_port}?tls=none", "MAIL_FROM": "club@example.com",
            "PUBLIC_URL": "https://club.example.com",
        }
        server.start(**self.final)
        self.register("unverified", 202)
        self.register("tried", 202)
        self.tokens("tried", self.each)

    def address(self, kind, number):
        return f"{kind}.{number}@example.com"

    def register(self, kind, status):
        body = lambda number: {"name": "Ana", "email": self.address(kind, number), "password": PASSWORD}
        return [self.server.must(status, "POST", "/api/auth/register", body(number)) for number in range(self.each)]

    def log_in_as(self, email):
        body = {"email": email, "password": PASSWORD}
        return self.server.must(200, "POST", "/api/auth/login", body)["access_token"]

    def tokens(self, kind, count):
        """The tokens that addresses of a kind were sent, the first ones first, as soon as there are so many."""
        while True:
            mails = [json.loads(line) for line in Path(self.mails).read_text().splitlines(True) if line.endswith("\n")]
            found = [mail["token"] for mail in mails if mail["to"].startswith(f"{kind}.")]
            if len(found) >= count:
                return found
            time.sleep(0.05)


def measure(title, kinds, ask, options):
    """Asks for each kind once a round; `kinds`: what is asked of each, by round. Whether no difference is certainly too large: it would be
    found again."""
    different = None
    for turn in range(TIMES):
        found = measure_once(title, kinds, ask, options, WARM_UP + turn * (WARM_UP + options.rounds))
        different = found if different is None else different & found
        if not different:
            return True
    return False


def measure_once(title, kinds, ask, options, offset):
    """The kinds whose difference is too large, and whether they are slower. `offset` is the number of the first round."""
    times = {kind: [] for kind in kinds}
    first, *others = kinds
    deadline = time.monotonic() + options.seconds * len(kinds) / KINDS if options.seconds else None
    for number in range(-WARM_UP, options.rounds):
        if deadline and number > 0 and number % GLANCE == 0:
            found = [bounds(times[first], times[kind], statistics.median, GLANCES) for kind in others]
            if time.monotonic() > deadline or all(-options.bound < low and high < options.bound for low, high in found):
                break
        order = list(kinds)
        random.shuffle(order)
        for kind in order:
            took = ask(kinds[kind](number + offset))
            if number >= 0:
                times[kind].append(took)
            # What follows the answer, a mail say, is over when the next one is asked.
            time.sleep(options.pause / 1_000)
    print(f"\n{title}, {len(times[first])} rounds, cost {options.cost}\n")
    print("| address | median | difference | 95 % | fastest tenth | difference | 95 % |\n| --- | --- | --- | --- | --- | --- | --- |")
    different = set()
    for kind, taken in times.items():
        cells = []
        for of in (statistics.median, fastest_tenth):
            cells.append(f"{of(taken):.3f} ms")
            if kind == first:
                cells += ["", ""]
                continue
            base, (low, high) = of(times[first]), bounds(times[first], taken, of)
            cells += [f"{100 * (of(taken) - base) / base:+.1f} %", f"{low:+.1f} to {high:+.1f} %"]
            if of is statistics.median:
                if low > options.bound or high < -options.bound:
                    different.add((kind, low > 0))
        print(f"| {kind} | {' | '.join(cells)} |")
    sys.stdout.flush()
    return different


def fastest_tenth(times):
    """The time within which a tenth of the answers came."""
    return sorted(times)[len(times) // 10]


def bounds(first, second, of, resamples=RESAMPLES):
    """Between which bounds the difference is, in per cent of the first one: rounds are drawn, with both of their times."""
    rounds, found = list(zip(first, second)), []
    for _ in range(resamples):
        base, other = (of(times) for times in zip(*random.choices(rounds, k=len(rounds))))
        found.append(100 * (other - base) / base)
    found.sort()
    return found[resamples * 25 // 1_000], found[resamples * 975 // 1_000]


def attempts(club, options):
    """What is measured, by name."""
    server = club.server

    def timed(path, *statuses):
        def ask(body):
            status, document, took = server.ask("POST", path, body)
            if status not in statuses:
                sys.exit(f"{path} {body}: {status} {document}")
            return took
        return ask

    def guess(kind, password="not this one"):
        return lambda round: {"email": club.address(kind, round // TRIES), "password": password}

    def about(kind):
        return lambda round: {"email": club.address(kind, round % club.each)}

    def registration(address):
        return lambda round: {"name": "Eva", "email": address(round), "password": PASSWORD}

    def login():
        kinds = {
            "unknown": guess("unknown"), "a member's": guess("member"), "deactivated": guess("deactivated"),
            "suspended": guess("suspended"), "left": guess("erased"), "pending": guess("pending"),
            "not verified": guess("unverified"), "not verified, right password": guess("tried", PASSWORD),
            "a member's, of a cheaper hash": guess("cheaper"),
        }
        return measure("Login", kinds, timed("/api/auth/login", 401), options)

    def lowered():
        # A server that has not met a dearer hash since its start.
        server.start(**club.final)
        kinds = {
            "unknown": guess("nobody"), "a member's": guess("linked"), "a member's, of a dearer hash": guess("dearer"),
        }
        return measure("Login after BCRYPT_COST was lowered", kinds, timed("/api/auth/login", 401), options)

    def register():
        kinds = {
            "free": registration(lambda round: club.address("new", round)),
            "a member's": registration(lambda round: club.address("member", round % club.each)),
            "deactivated": registration(lambda round: club.address("deactivated", round % club.each)),
            "left, and free": registration(lambda round: f"again.{round}@example.com"),
            "not verified": registration(lambda round: club.address("unverified", round % club.each)),
        }
        return measure("Registration", kinds, timed("/api/auth/register", 202), options)

    def forgot():
        kinds = {
            "unknown": lambda round: {"email": club.address("whoever", round)}, "a member's": about("member"),
            "deactivated": about("deactivated"), "left": about("erased"), "not verified": about("unverified"),
        }
        return measure("Forgotten password", kinds, timed("/api/auth/password/forgot", 202), options)

    def after():
        one, other = timed("/api/auth/password/forgot", 202), timed("/api/auth/password/forgot", 202)

        def ask(body):
            one(body)
            return other({"email": f"after.{random.random()}@example.com"})
        kinds = {"unknown": lambda round: {"email": club.address("whoever", -round)}, "a member's": about("linked"), "left": about("erased")}
        return measure("The request after one for a forgotten password", kinds, ask, options)

    def reset():
        for turn in (1, 2):
            for number in range(club.each):
                server.must(202, "POST", "/api/auth/password/forgot", {"email": club.address("reset", number)})
            sent = club.tokens("reset", turn * club.each)
        first = sent[:club.each]
        made_up = lambda round: {"token": f"{round:043d}", "new_password": "battery staple"}
        replaced = lambda round: {"token": first[round % len(first)], "new_password": "battery staple"}
        return measure("A link that is none", {"made up": made_up, "replaced": replaced}, timed("/api/auth/password/reset", 422), options)

    return {"login": login, "lowered": lowered, "register": register, "forgot": forgot, "after": after, "reset": reset}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], epilog="What is measured: login, lowered, register, forgot, after, reset.")
    parser.add_argument("--server", default=str(Path(__file__).parents[2] / "target/release/members-book"), help="the program")
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--cost", type=int, default=12, help="BCRYPT_COST")
    parser.add_argument("--bound", type=float, default=5.0, help="the largest difference of medians, in per cent")
    parser.add_argument("--pause", type=float, default=30.0, help="milliseconds between two requests")
    parser.add_argument("--seconds", type=float, help="how long to measure, all in all; making the club comes on top")
    parser.add_argument("--only", nargs="*", default=[], help="what to measure; all of it by default")
    parser.add_argument("--sink", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.sink:
        return sink(options.sink)
    with tempfile.TemporaryDirectory() as folder:
        mails = str(Path(folder) / "mails")
        Path(mails).touch()
        mail = subprocess.Popen([sys.executable, __file__, "--sink", mails], stdout=subprocess.PIPE, text=True)
        server = Server(str(Path(options.server).resolve()), folder)
        try:
            each = TIMES * (options.rounds + WARM_UP) // TRIES + 2
            club = Club(server, int(mail.stdout.readline()), mails, options.cost, each)
            suites = attempts(club, options)
            good = [suites[name]() for name in options.only or suites]
        finally:
            server.stop()
            mail.terminate()
            mail.wait()
    sys.exit(0 if all(good) else 1)


if __name__ == "__main__":
    main()
