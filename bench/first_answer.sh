#!/bin/sh
# From a fresh clone to the first answer, beside the part of it that is pip alone. Needs git and curl.
set -eu
here=$(git rev-parse --show-toplevel)
work=$(mktemp -d)
trap 'kill "${server:-}" 2>/dev/null || true; rm -rf "$work"' EXIT
now() { date +%s.%N; }

cd "$work"
began=$(now)
python3 -m venv alone
alone/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement "$here/requirements.txt"
pip=$(now)
git clone --quiet "$here" clone
cloned=$(now)
PORT=5050 make --quiet -C clone run 2>clone.log &
server=$!
row=$(python3 -c 'import json; print(json.dumps(json.load(open("clone/model.json"))["reference"][0]["features"]))')
until curl --silent --fail http://localhost:5050/predict \
    --header "Content-Type: application/json" --data "{\"features\":$row}"; do
    kill -0 "$server" || { cat clone.log; exit 1; }
    sleep 0.1
done
echo "$began $pip $cloned $(now)" |
    awk '{ printf "venv and pip alone: 1; make run to the first answer: %.2f\n", ($4 - $3) / ($2 - $1) }'
