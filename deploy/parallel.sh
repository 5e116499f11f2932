#!/usr/bin/env bash
# Several machines without a scheduler: GNU parallel starts a worker per part, over ssh where it is told hosts.
#
#     deploy/parallel.sh /data/captures /data/traces 8                      # here
#     deploy/parallel.sh /data/captures /data/traces 8 --sshlogin a,b,c     # there: the same paths on all of them
#
# One machine alone needs none of this: `kvm-timeline batch` uses all its cores.
set -euo pipefail
source=${1:?the directory of captures} destination=${2:?the directory of traces} parts=${3:?how many parts}
shift 3
# A worker that ends with 3 has done its part, with failures that the summary names: the others go on.
parallel "$@" --halt never "${KVM_TIMELINE:-kvm-timeline}" --quiet batch "$source" --out "$destination" \
    --shard "{}/$parts" ::: $(seq "$parts") || true
exec "${KVM_TIMELINE:-kvm-timeline}" batch --summary "$destination"
