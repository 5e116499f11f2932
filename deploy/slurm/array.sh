#!/usr/bin/env bash
# Converts a tree of captures with a Slurm job array, one part of it per task:
#
#     SOURCE=/data/captures DEST=/data/traces sbatch --array=1-16 array.sh
#
# Each task finds its part by the array's numbers, whatever they are. A task that was killed, or an array that ran out of
# time, is simply submitted again: what is finished is left as it is. At the end
#
#     kvm-timeline batch --summary "$DEST"
#
# says what all of them did, and fails if anything did.
#SBATCH --job-name=kvm-timeline
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=2
#SBATCH --mem-per-cpu=512M
#SBATCH --requeue
set -euo pipefail
: "${SOURCE:?the directory of captures}" "${DEST:?the directory of traces}"

threads=${SLURM_CPUS_PER_TASK:-1}
# Half of what the job may use, as the rest is the page cache's, which Slurm counts as well.
memory=$((threads * ${SLURM_MEM_PER_CPU:-512} / 2))M
# Slurm signals SIGTERM before it kills; exec lets it reach the program, which then abandons what it has not finished.
exec "${KVM_TIMELINE:-kvm-timeline}" --threads "$threads" batch "$SOURCE" --out "$DEST" \
    --shard auto --max-memory "$memory" --retry 2 "$@"
