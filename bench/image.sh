#!/bin/sh
# The image beside the one that a tutorial builds (one stage, three names for pip, everything copied, the development
# server), on the same base: what each adds to it, and from `run` to the first answer. Needs docker or podman, and curl.
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
$container build --quiet ${BUILD_ARGS:-} --tag bench-image-plain "$work" >/dev/null

bytes() { $container image inspect --format '{{.Size}}' "$1"; }
echo "$(bytes "$base") $(bytes bench-image-ours) $(bytes bench-image-plain)" |
    awk '{ printf "adds to the base: %d MB, plain %d MB, ratio %.2f\n", ($2 - $1) / 1e6, ($3 - $1) / 1e6, ($2 - $1) / ($3 - $1) }'

for round in 1 2 3 4 5; do
    for image in ours plain; do
        began=$(date +%s%N)
        $container run --detach --name bench-image $run_args "bench-image-$image" >/dev/null
        until curl --silent --fail --output /dev/null http://127.0.0.1:5000/predict \
            --header "Content-Type: application/json" --data '{"features":[5.1, 3.5, 1.4, 0.2]}'; do sleep 0.02; done
        echo "$image $((($(date +%s%N) - began) / 1000000))" >>"$work/starts"
        $container rm --force --time 0 bench-image >/dev/null 2>&1 || $container rm --force bench-image >/dev/null
    done
done
median() { grep "^$1 " "$work/starts" | cut -d ' ' -f 2 | sort -n | sed -n 3p; }
echo "$(median ours) $(median plain)" | awk '{ printf "run to the first answer: ratio %.2f, medians of 5\n", $1 / $2 }'
