#!/usr/bin/env bash
# Opens the pages of the documentation, and the app, of a running server in a headless Chromium. Needs Chromium, Node 18 and npm; what is
# missing is installed with apt-get where that is possible. CHROMIUM names another binary.
set -euo pipefail
cd "$(dirname "$0")"

browser() { command -v "${CHROMIUM:-chromium}" || command -v chromium-browser || command -v google-chrome; }
missing=()
browser >/dev/null || missing+=(chromium)
command -v node >/dev/null || missing+=(nodejs)
command -v npm >/dev/null || missing+=(npm)
if [ ${#missing[@]} -gt 0 ]; then
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo "tests/browser needs ${missing[*]}: install them (Debian: apt-get install ${missing[*]})" >&2
        exit 1
    fi
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

npm ci --silent --no-audit --no-fund --ignore-scripts
export CHROMIUM
CHROMIUM=$(browser)
timeout 180 bash ../with-server.sh node pages.mjs
timeout 300 node app.mjs
timeout 120 node keyboard.mjs
timeout 300 node accounts.mjs
timeout 300 node second-factor.mjs
timeout 300 node mends.mjs
timeout 300 node newcomer.mjs
timeout 300 node chats.mjs
timeout 300 node lists.mjs
timeout 300 node push.mjs
timeout 300 node long.mjs
