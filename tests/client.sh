#!/usr/bin/env bash
# The client package and the app: types, tests against the server of the release build, size, what npm would publish, and exports of the app for the web,
# Android and iOS. Needs Node 20 and npm. MEMBERS_BOOK_BIN names another binary.
set -euo pipefail
cd "$(dirname "$0")/../protocol/typescript"
quiet=(--silent --no-audit --no-fund)

npm ci "${quiet[@]}" --ignore-scripts
npm run --silent build
npm run --silent check
npm run --silent size
npm run --silent lint:package
# What is published, not what it is made of.
BUILT=1 npm test --silent

echo "-- the app: types, and exports"
cd example
npm ci "${quiet[@]}" --ignore-scripts
npm run --silent check
export EXPO_OFFLINE=1 EXPO_NO_TELEMETRY=1 CI=1
for platform in web android ios; do
    npm run --silent "export:$platform" >"/tmp/members-book-export.$$" 2>&1 || { cat "/tmp/members-book-export.$$" >&2; exit 1; }
    grep -a "^Exported" "/tmp/members-book-export.$$"
done
rm -f "/tmp/members-book-export.$$"
