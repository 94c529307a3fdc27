#!/usr/bin/env bash
# Fetches the viewers of the documents anew. Needs npm; no script of a package runs. README.md says how to update one.
set -euo pipefail
cd "$(dirname "$0")"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# vendor PACKAGE VERSION SHA256 NAME FILE...: keeps these files of the package, compressed, with its licence beside them.
vendor() {
    local package=$1 version=$2 sum=$3 name=$4 tarball folder
    shift 4
    tarball=$scratch/$(cd "$scratch" && npm pack --silent --ignore-scripts "$package@$version" | tail -1)
    echo "$sum  $tarball" | sha256sum --check --quiet
    folder=$name-$version
    rm -rf "./$name"-*
    mkdir -p "$folder" "$scratch/$name"
    tar -xzf "$tarball" -C "$scratch/$name" --strip-components=1
    cp "$scratch/$name/LICENSE" "$folder/LICENSE"
    if [ -f "$scratch/$name/NOTICE" ]; then cp "$scratch/$name/NOTICE" "$folder/NOTICE"; fi
    for file in "$@"; do
        local from=$scratch/$name/$file to
        to=$folder/$(basename "$file")
        if [ -f "$from.LICENSE.txt" ]; then cp "$from.LICENSE.txt" "$to.LICENSE.txt"; fi
        # The menu of ReDoc shows a picture from another host; here it is an empty one.
        # The maps that the last lines point to are not kept.
        sed -e 's|https://cdn\.redoc\.ly/redoc/logo-mini\.svg|data:image/svg+xml,<svg xmlns=%22http://www.w3.org/2000/svg%22/>|g' \
            -e '/^\/\/# sourceMappingURL=/d' -e 's|^/\*# sourceMappingURL=.*\*/$||' "$from" | gzip -9n >"$to.gz"
    done
}

vendor swagger-ui-dist 5.35.0 1b8e891893404ea4c3558b6a87e2a3e494e7eedba41168c2ece5800a391a6ea6 swagger-ui \
    swagger-ui-bundle.js swagger-ui.css
vendor redoc 2.5.4 44922df4d0eb45c1b066c09ec251e6bd9bd7ded16bc69e87613337b9d911a56e redoc \
    bundles/redoc.standalone.js
vendor @asyncapi/react-component 3.2.1 c7b5fa24dd8395383fcde3fe53d1bc9a66f02e39c86999845e486084504d512c asyncapi-react \
    browser/standalone/index.js styles/default.min.css
