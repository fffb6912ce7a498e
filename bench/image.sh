#!/bin/sh
# The image, the edge image, and the one that a tutorial builds (one stage, three names for pip, everything copied, the
# development server), on the same base: what each adds to it, from `run` to the first answer, and the memory at rest.
# Needs docker or podman, and curl.
set -eu
cd "$(git rev-parse --show-toplevel)"
container=${CONTAINER:-docker}
base=${BASE:-$(sed -n 's/^FROM \(.*\) AS python$/\1/p' Dockerfile)}
run_args=${RUN_ARGS:---publish 127.0.0.1:5000:5000}
work=$(mktemp -d)
trap 'rm -rf "$work"; $container rm --force bench-image >/dev/null 2>&1 || true' EXIT

cp model.pkl "$work"
echo "FROM $base
WORKDIR /app
RUN pip install flask scikit-learn joblib
COPY . .
CMD [\"python\", \"app.py\"]" >"$work/Dockerfile"
cat >"$work/app.py" <<'APP'
import joblib
from flask import Flask, jsonify, request

app = Flask(__name__)
model = joblib.load("model.pkl")


@app.post("/predict")
def predict():
    return jsonify(prediction=model.predict([request.get_json()["features"]]).tolist())


app.run(host="0.0.0.0", port=5000)
APP
$container build --quiet ${BUILD_ARGS:-} --tag bench-image-ours . >/dev/null
$container build --quiet ${BUILD_ARGS:-} --target edge --tag bench-image-edge . >/dev/null
$container build --quiet ${BUILD_ARGS:-} --tag bench-image-plain "$work" >/dev/null

added() { echo $(($($container image inspect --format '{{.Size}}' "$1") - $($container image inspect --format '{{.Size}}' "$base"))); }
for image in ours edge plain; do
    echo "$image $(added "bench-image-$image")" >>"$work/sizes"
done

# The memory of all processes in the container but for the one that asks; what they share counts once.
cat >"$work/memory.py" <<'PYTHON'
import os

kilobytes = 0
for name in os.listdir("/proc"):
    if name.isdigit() and int(name) != os.getpid():
        with open(f"/proc/{name}/smaps_rollup") as file:
            kilobytes += sum(int(line.split()[1]) for line in file if line.startswith("Pss:"))
print(kilobytes // 1024)
PYTHON

for round in 1 2 3 4 5; do
    for image in ours edge plain; do
        began=$(date +%s%N)
        $container run --detach --name bench-image $run_args "bench-image-$image" >/dev/null
        until curl --silent --fail --output /dev/null http://127.0.0.1:5000/predict \
            --header "Content-Type: application/json" --data '{"features":[5.1, 3.5, 1.4, 0.2]}'; do sleep 0.02; done
        echo "$image $((($(date +%s%N) - began) / 1000000))" >>"$work/starts"
        echo "$image $($container exec --interactive bench-image python <"$work/memory.py")" >>"$work/memory"
        $container rm --force --time 0 bench-image >/dev/null 2>&1 || $container rm --force bench-image >/dev/null
    done
done

median() { grep "^$1 " "$work/$2" | cut -d ' ' -f 2 | sort -n | awk '{ value[NR] = $1 } END { print value[int((NR + 1) / 2)] }'; }
for pair in "ours plain" "edge ours"; do
    first=${pair% *}
    second=${pair#* }
    for what in sizes starts memory; do
        echo "$(median "$first" $what) $(median "$second" $what)" |
            awk -v what="$what: $first and $second" '{ printf "%s: %d, %d, ratio %.2f\n", what, $1, $2, $1 / $2 }'
    done
done
