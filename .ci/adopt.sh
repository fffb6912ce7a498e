#!/bin/sh
# Adopt the repository in a clone, as an owner does by docs/deployment.md, make each edit that the
# documents ask for, and run the tests that read manifests and documents.
set -eu
here=$(git rev-parse --show-toplevel)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cd "$here"
git ls-files -z | xargs -0 cp --parents --target-directory "$work"
cd "$work"
git init --quiet
git add --all
ln -s "$here/.venv" .venv # the packages of `make test`

# edit FILE SED-COMMAND: an edit that changes nothing is an error.
edit() {
    sed -i.old -e "$2" "$1"
    if cmp -s "$1" "$1.old"; then
        echo "nothing to change in $1: $2"
        exit 1
    fi
    rm "$1.old"
}

# add_component OVERLAY COMPONENT
add_component() {
    file=k8s/overlays/$1/kustomization.yaml
    grep -q '^components:$' "$file" || echo 'components:' >> "$file"
    edit "$file" "s|^components:\$|&\n  - ../../components/$2|"
}

digest() { # of 64 times one hex digit
    printf 'sha256:%064d' 0 | tr 0 "$1"
}

make adopt REPO=https://git.example.org/team/price.git IMAGE=registry.example.org:5000/team/price

for component in k8s/components/*; do
    component=$(basename "$component")
    grep -q "components/$component\$" k8s/overlays/production/kustomization.yaml || add_component production "$component"
done
add_component staging registry
add_component staging monitoring
edit k8s/overlays/production/kustomization.yaml 's|value: 20|value: 40|'
edit k8s/overlays/staging/kustomization.yaml 's|value: 2|value: 3|'

edit k8s/base/networkpolicy.yaml 's|metadata.name: gateway|metadata.name: ingress-nginx|'
edit k8s/base/networkpolicy.yaml 's|metadata.name: monitoring|metadata.name: observability|'
edit k8s/components/rollout/analysistemplate.yaml 's|http://.*|http://prometheus.observability:9090|'
edit k8s/components/ab/httproute.yaml 's|: gateway$|: public|'
edit k8s/components/registry/kustomization.yaml 's|metadata.name: mlflow|metadata.name: tracking|'
edit k8s/components/registry/pull.yaml 's|http://.*|https://server.tracking.svc:5000|'
edit k8s/components/registry/pull.yaml 's|models:/iris/1|models:/price_eu/12|'
edit k8s/components/batch/cronjob.yaml 's|schedule: .*|schedule: "5 4 * * 1-5"|'
edit k8s/components/stream/networkpolicy.yaml 's|metadata.name: redis|metadata.name: brokers|'
edit k8s/components/stream/networkpolicy.yaml 's|metadata.name: monitoring|metadata.name: observability|'
edit k8s/components/stream/networkpolicy.yaml 's|port: 6379|port: 9092|'
edit k8s/components/stream/scaledobject-kafka.yaml 's|kafka.kafka:9092|kafka.brokers:9092|'
edit k8s/components/stream/scaledobject.yaml 's|redis.redis:6379|redis.brokers:6379|'
edit k8s/components/stream/kustomization.yaml 's|scaledobject.yaml #.*|scaledobject-kafka.yaml|'
for account in k8s/base k8s/components/batch k8s/components/stream; do
    printf 'imagePullSecrets:\n  - name: registry\n' >> $account/serviceaccount.yaml
done

# Every file that the documents tell the owner to edit is edited above.
for file in $(sed -n '/^## Adopt/,/^## Connect/p' docs/deployment.md | grep -o '`k8s/[^`]*`' | tr -d '`'); do
    if git diff --quiet -- "$file"; then
        echo "no edit of $file is tested"
        exit 1
    fi
done

make pin OVERLAY=staging DIGEST="$(digest a)"
make pin OVERLAY=staging TARGET=batch DIGEST="$(digest b)"
make pin OVERLAY=staging TARGET=registry DIGEST="$(digest c)"
make promote
make pin OVERLAY=experiment DIGEST="$(digest d)"

MAX_COMPONENTS=4 .venv/bin/pytest --numprocesses auto tests/deployment tests/docs
