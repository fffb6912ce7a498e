#!/usr/bin/env bash
# Run the commands of "Local cluster" in docs/deployment.md from top to bottom, as a reader does.
set -euo pipefail
cd "$(dirname "$0")/.."
unset MAKELEVEL MAKEFLAGS # a make inside another one prints more
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT

# A command starts with a prompt; the other lines of a block are what it prints.
sed -n '/^## Local cluster/,$p' docs/deployment.md | sed -n '/^```console/,/^```$/p' | grep -v '^```' > "$work/console"
{
    echo 'set -euxo pipefail'
    echo "trap 'kill \$(jobs -p) 2>/dev/null || true' EXIT"
    sed -n 's/^\$ //p' "$work/console"
} > "$work/script"

bash "$work/script" | tee "$work/printed"
grep -v '^\$ ' "$work/console" | while read -r line; do
    grep -qxF "$line" "$work/printed" || { echo "not printed: $line"; exit 1; }
done
