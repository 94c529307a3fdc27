#!/usr/bin/env bash
# Runs every test: the scripted conversation of `load` against a real server on each store, with kills in between, a fleet
# of three nodes whose parts fail, pushes through failures, attacks, the pages and the app in a real browser, the client package, schemathesis against the API, and the whole suite;
# says at the end how many tests ran on each store.
#
# Takes some 40 minutes from nothing on two cores, and 15 after that. Needs Rust. A C compiler, Python 3 with venv, Chromium, valgrind, redis-server
# and Node with npm are installed with apt-get where that is possible, and named before anything begins where it is not; schemathesis and
# (unless MONGODB_URI is set or mongod is on PATH) SecantusDB are installed into virtual environments. Uses cargo-nextest where it is
# installed, and cargo's own test runner where it is not.
set -euo pipefail
cd "$(dirname "$0")/.."

scratch=$(mktemp -d)
database_pid=""
# Ends what this script has started, and nothing else.
cleanup() {
    if [ -n "$database_pid" ]; then
        kill -9 "$database_pid" 2>/dev/null || true
        wait "$database_pid" 2>/dev/null || true
    fi
    rm -rf "$scratch"
}
trap cleanup EXIT

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

install_secantus() {
    local venv=target/test-database
    if [ ! -x "$venv/bin/python" ] || ! "$venv/bin/python" -c 'import secantus' 2>/dev/null; then
        echo "== installing SecantusDB, a MongoDB for tests, into $venv"
        mkdir -p target
        python3 -m venv "$venv"
        "$venv/bin/pip" install --quiet 'secantusdb==0.7.0b3'
    fi
}

# start_database FOLDER PORT: starts a database server in the background; its id is in $database_pid.
start_database() {
    mkdir -p "$1"
    if command -v mongod >/dev/null; then
        mongod --bind_ip 127.0.0.1 --port "$2" --replSet test --dbpath "$1" \
            --setParameter enableTestCommands=1 >"$1.log" 2>&1 &
    else
        target/test-database/bin/python -m secantus --sync-on-commit --enable-test-commands \
            --port "$2" --storage-path "$1" >"$1.log" 2>&1 &
    fi
    database_pid=$!
}

# wait_for_port PORT: until something listens there, half a minute at most.
wait_for_port() {
    for _ in $(seq 300); do
        if (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; then return 0; fi
        sleep 0.1
    done
    echo "the database does not listen on port $1" >&2
    return 1
}

stop_database() {
    kill -9 "$database_pid" 2>/dev/null || true
    wait "$database_pid" 2>/dev/null || true
    database_pid=""
}

has() { command -v "$1" >/dev/null; }

# What is missing is named or installed now, and not when it is needed.
prepare() {
    local missing=()
    if ! has cargo; then
        echo "tests/run.sh needs Rust: see https://rustup.rs" >&2
        exit 1
    fi
    has cc || missing+=(build-essential)
    has python3 || missing+=(python3)
    python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
    has valgrind || missing+=(valgrind)
    has redis-server || missing+=(redis-server)
    has node || missing+=(nodejs)
    has npm || missing+=(npm)
    has "${CHROMIUM:-chromium}" || has chromium-browser || has google-chrome || missing+=(chromium)
    if [ ${#missing[@]} -eq 0 ]; then return; fi
    if [ "$(id -u)" != 0 ] || ! has apt-get; then
        echo "tests/run.sh needs ${missing[*]}: install them (Debian: apt-get install ${missing[*]})" >&2
        exit 1
    fi
    echo "== installing ${missing[*]}"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}
prepare

if ! command -v mongod >/dev/null; then
    install_secantus
fi

echo "== building the server and the load client"
cargo build --release --workspace --quiet

echo "== instructions of the hot pieces, beside those that they had"
target/release/load instructions

echo "== the scripted conversation on SQLite, with the server killed and restarted three times"
target/release/load chat --spawn --members 50 --messages 6000 --window 4 --receipts --drops 3 --kills 3

echo "== 500 idle connections, and messages through them"
target/release/load idle --spawn -n 500 --hold 4 --settle 1 --set HEARTBEAT_INTERVAL=3s

echo "== seventeen attacks, each for a moment"
target/release/load hostile --spawn --quick

echo "== who is a member, by the time of an answer: a minute of it"
python3 tests/attack/timing.py --rounds 60 --cost 8 --pause 10 --seconds 40

echo "== pushes: devices that freeze and vanish, push services that fail a third of the time, and a server that is killed twice"
target/release/load push --members 12 --rate 8 --seconds 20 --drain 120 --failing 0.33 --kills 2

if command -v mongod >/dev/null; then
    echo "== the scripted conversation on MongoDB is part of the suite's crash tests: mongod needs a replica set"
else
    echo "== the scripted conversation on MongoDB, with the server and the database killed three times each"
    port=$(free_port)
    start_database "$scratch/chat" "$port"
    wait_for_port "$port"
    target/release/load chat --spawn --store "mongodb://127.0.0.1:$port/chat?directConnection=true" \
        --set STORE_TIMEOUT=3s --members 20 --messages 3000 --window 2 --receipts --drops 3 --kills 3 &
    chat=$!
    for _ in 1 2 3; do
        sleep 6
        if ! kill -0 "$chat" 2>/dev/null; then break; fi
        stop_database
        sleep 1
        start_database "$scratch/chat" "$port"
        wait_for_port "$port"
        echo "the database was killed and started again"
    done
    wait "$chat"
    stop_database

    echo "== three nodes on one database and one Redis, all of which fail while members talk"
    target/release/load fleet --nodes 3 --members 40 --rate 12 --seconds 5 --spacing 1 --fast 2000 --recovery 120 \
        --node-kills 2 --node-stops 1 --stop-time 8 --redis-kills 1 --redis-partitions 1 --partition-time 6 --database-kills 1
fi

if [ -z "${MONGODB_URI:-}" ] && ! command -v mongod >/dev/null; then
    port=$(free_port)
    start_database "$scratch/suite" "$port"
    wait_for_port "$port"
    export MONGODB_URI="mongodb://127.0.0.1:$port/?directConnection=true"
fi

echo "== the pages of the documentation, and the app, in a real browser"
bash tests/browser/run.sh

echo "== the client package, and the app"
bash tests/client.sh

echo "== the OpenAPI document, attacked by schemathesis"
bash tests/schemathesis/run.sh

echo "== the suite"
if cargo nextest --version >/dev/null 2>&1; then
    cargo nextest run --workspace --all-features
    list() { cargo nextest list --workspace --all-features 2>/dev/null; }
else
    cargo test --workspace --all-features
    list() { cargo test --workspace --all-features -- --list 2>/dev/null; }
fi

# Every test that is listed ran: none is ignored, and the runner has not failed.
list >"$scratch/tests"
echo "== tests of the store that ran: $(grep -c 'store::.*on_sqlite::\|store::sqlite::' "$scratch/tests") on SQLite," \
    "$(grep -c 'store::.*on_mongodb::\|store::mongodb::' "$scratch/tests") on MongoDB," \
    "of which the conformance suite is $(grep -c 'on_sqlite::' "$scratch/tests") and $(grep -c 'on_mongodb::' "$scratch/tests")"
