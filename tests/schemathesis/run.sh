#!/usr/bin/env bash
# Checks that the OpenAPI document of a running server is one, and lets schemathesis attack every operation in it: as a member
# and as an administrator. No 5xx, no status, content type, header or body that the document does not promise.
# Needs Python 3.10 with venv; what is missing is installed with apt-get where that is possible. The same seed, the same cases.
set -euo pipefail
cd "$(dirname "$0")"
venv=../../target/schemathesis

if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo "tests/schemathesis needs Python with venv (Debian: apt-get install python3 python3-venv)" >&2
        exit 1
    fi
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3 python3-venv >/dev/null
fi
if ! cmp -s requirements.txt "$venv/installed.txt"; then
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement requirements.txt
    cp requirements.txt "$venv/installed.txt"
fi
venv=$(cd "$venv" && pwd)

"$venv/bin/openapi-spec-validator" --schema 3.1 ../../protocol/schema/openapi.json

attack() {
    local statuses=$venv/$1.txt
    echo "-- as $1"
    rm -f "$statuses"
    SCHEMATHESIS_HOOKS=hooks PYTHONPATH=. PYTHONDONTWRITEBYTECODE=1 ROLE=$1 STATUSES=$statuses timeout 300 \
        bash ../with-server.sh bash -c "'$venv/bin/schemathesis' --config-file schemathesis.toml run \$BASE_URL/api/openapi.json"
    cat "$statuses"
    if grep "^NEVER WORKED" "$statuses" >&2; then exit 1; fi
}
attack member
attack admin
