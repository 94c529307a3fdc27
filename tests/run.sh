#!/usr/bin/env bash
# Runs every test: the scripted conversation of `load` against a real server, with kills in between, and the whole suite.
# Needs Rust and a C compiler. Uses cargo-nextest where it is installed, and cargo's own test runner where it is not.
set -euo pipefail
cd "$(dirname "$0")/.."

echo "== building the server and the load client"
cargo build --release --workspace --quiet

echo "== the scripted conversation, with the server killed and restarted three times"
target/release/load chat --spawn --members 50 --messages 6000 --window 4 --receipts --drops 3 --kills 3

echo "== 500 idle connections, and messages through them"
target/release/load idle --spawn -n 500 --hold 4 --set HEARTBEAT_INTERVAL=3s

echo "== the suite"
if cargo nextest --version >/dev/null 2>&1; then
    cargo nextest run --workspace --all-features
else
    cargo test --workspace --all-features
fi
