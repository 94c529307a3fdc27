#!/usr/bin/env bash
# Runs a command beside a server on a throw-away folder: without limits of rate, with cheap passwords, with one
# administrator. The command finds it at $BASE_URL, with $ADMIN_EMAIL and $ADMIN_PASSWORD. Fails if the server died or
# panicked.
# Usage: bash tests/with-server.sh COMMAND [ARGUMENT...]. MEMBERS_BOOK names another binary than that of the release build.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
server=${MEMBERS_BOOK:-$root/target/release/members-book}
folder=$(mktemp -d)
settings=(PORT=0 METRICS_ADDR=off BCRYPT_COST=4 LOG=warn LOG_FORMAT=json REGISTRATION=open INVITATIONS=members
    RATE_MESSAGES=0 RATE_FRAMES=0 RATE_REQUESTS=0 RATE_ADDRESS=0 RATE_LOGINS=0 RATE_REFRESHES=0 RATE_REGISTRATIONS=0 RATE_PROFILES=0)
export ADMIN_EMAIL=root@example.com ADMIN_PASSWORD="the password of root"

(cd "$folder" && exec env -i "${settings[@]}" "$server" >out 2>log) &
pid=$!
finish() {
    kill "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
    if [ -s "$folder/log" ]; then
        echo "-- the end of the server's log:"
        tail -n 20 "$folder/log"
    fi
    rm -rf "$folder"
}
trap finish EXIT

for _ in $(seq 200); do
    BASE_URL=$(sed -n 's/^ *API *\(http:[^ ]*\).*/\1/p' "$folder/out" 2>/dev/null || true)
    if [ -n "$BASE_URL" ] || ! kill -0 "$pid" 2>/dev/null; then break; fi
    sleep 0.1
done
if [ -z "$BASE_URL" ]; then
    echo "the server did not start: $server" >&2
    exit 1
fi
export BASE_URL
(cd "$folder" && env -i "${settings[@]}" "$server" admin create --name Root --email "$ADMIN_EMAIL" <<<"$ADMIN_PASSWORD") >/dev/null

status=0
"$@" || status=$?
if ! kill -0 "$pid" 2>/dev/null; then
    echo "the server died" >&2
    exit 1
fi
if grep -q panicked "$folder/log"; then
    echo "the server panicked" >&2
    exit 1
fi
exit "$status"
