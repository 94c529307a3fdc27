#!/usr/bin/env bash
# Puts the web app into the server: the files of an export of protocol/typescript/example, compressed, and the list of them.
#
#   update-app.sh [DIST]   takes them from DIST, by default protocol/typescript/example/dist
#   update-app.sh --check  ends with 1 if what is committed was made of other sources than those of this checkout
#
# Builds nothing, and --check needs no Node. The same files make the same bytes on every machine. README.md says more.
set -euo pipefail
export LC_ALL=C
cd "$(dirname "$0")/../../.."
example=protocol/typescript/example
app=src/http/assets/app

# One hash over all that decides what the app is: the sources of the client package and of the app, and their lock files. Files that git
# ignores, tests and texts for people decide nothing.
sources() {
    git ls-files -z --cached --others --exclude-standard -- protocol/typescript | sort -zu |
        while IFS= read -r -d '' file; do
            case $file in
            *.md | */llms.txt | */scripts/* | */vitest.config.ts | */LICENSE | */.gitignore | *.test.* | *.spec.* | */test/* | */tests/* | */e2e/* | */__tests__/*) continue ;;
            esac
            if [ -f "$file" ]; then sha256sum -- "$file"; fi
        done | sha256sum | cut -d ' ' -f 1
}

if [ "${1:-}" = --check ]; then
    if [ ! -d "$example" ]; then
        echo "there is no app yet: nothing to compare"
        exit 0
    fi
    if [ "$(cat "$app/sources.sha256" 2>/dev/null)" != "$(sources)" ]; then
        echo "the app in $app was not made of these sources: export it in $example, and run $0" >&2
        exit 1
    fi
    echo "the app in the server is that of these sources"
    exit 0
fi

dist=${1:-$example/dist}
if [ ! -f "$dist/index.html" ]; then
    echo "$dist has no index.html: export the app first ($example says how), or name the folder" >&2
    exit 1
fi
rm -rf "$app"
mkdir -p "$app/files"
{
    echo "// Made by src/http/assets/update-app.sh: the files of the web app, compressed in \`files\` under the hash of what is in them."
    echo "["
    # Maps of sources are for developers, who have the sources; metadata.json is for native apps.
    (cd "$dist" && find . -type f ! -name '*.map' ! -name metadata.json ! -name '.*' -print0) | sort -z |
        while IFS= read -r -d '' file; do
            path=${file#./}
            case $path in
            *\"* | *\\*)
                echo "a name that cannot be listed: $path" >&2
                exit 1
                ;;
            esac
            hash=$(sha256sum -- "$dist/$path" | cut -c 1-32)
            gzip -n -9 -c -- "$dist/$path" >"$app/files/$hash.gz"
            echo "    file!(\"$path\", \"$hash\"),"
        done
    echo "]"
} >"$app/manifest.inc"
sources >"$app/sources.sha256"
echo "$(find "$app/files" -type f | wc -l) files, $(du -sk "$app/files" | cut -f 1) KiB, are in $app: commit them"
