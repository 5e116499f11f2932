#!/usr/bin/env bash
# A job array on a real Slurm: controller and two nodes on this machine's loopback, with keys, ports and files of their
# own. Forty captures and more in four tasks; one worker is killed in the middle, and the array submitted again. Then
# every output must be there, once, and equal to that of a single run on one machine, byte for byte.
#
#     tests/cluster/slurm.sh target/release/kvm-timeline
#
# Needs slurmctld, slurmd, slurm-client and munge of Debian, and root.
set -euo pipefail
program=$(realpath "${1:?the kvm-timeline to test}")
root=$(realpath "$(dirname "$0")/../..")
dir=$(mktemp -d /tmp/kvm-timeline-slurm.XXXXXX)
chmod 755 "$dir"
started=()

finish() {
    local code=$?
    ((code == 0)) || tail -n 20 "$dir"/*.log "$dir"/task-*.txt 2>/dev/null || true
    scancel --quiet --user=root 2>/dev/null || true
    kill "${started[@]}" 2>/dev/null || true
    wait 2>/dev/null || true
    rm -rf "$dir"
    exit "$code"
}
trap finish EXIT
fail() {
    echo "slurm.sh: $*" >&2
    exit 1
}
# Waits up to a minute.
until_true() {
    local what=$1
    shift
    for _ in $(seq 600); do
        if "$@" >/dev/null 2>&1; then return; fi
        sleep 0.1
    done
    fail "$what did not happen within a minute"
}

# The cluster.
host=$(hostname -s)
read -r -a ports < <(python3 -c '
import socket
all = [socket.socket() for _ in range(3)]
for one in all: one.bind(("127.0.0.1", 0))
print(*[one.getsockname()[1] for one in all])')
mkdir -p "$dir/munge" "$dir/state" "$dir/spool.n1" "$dir/spool.n2"
chmod 700 "$dir/munge"
dd if=/dev/urandom of="$dir/munge/key" bs=1 count=1024 status=none
chmod 400 "$dir/munge/key"
socket=$dir/munge.socket
cat >"$dir/slurm.conf" <<END
ClusterName=loopback
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
SlurmctldPort=${ports[0]}
AuthType=auth/munge
AuthInfo=socket=$socket
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
KillWait=2
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool.%n
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd.%n.pid
SlurmctldLogFile=$dir/slurmctld.log
SlurmdLogFile=$dir/slurmd.%n.log
NodeName=n1 NodeHostname=$host NodeAddr=127.0.0.1 Port=${ports[1]} CPUs=2 RealMemory=1024
NodeName=n2 NodeHostname=$host NodeAddr=127.0.0.1 Port=${ports[2]} CPUs=2 RealMemory=1024
PartitionName=all Nodes=n1,n2 Default=YES State=UP
END
export SLURM_CONF=$dir/slurm.conf
munged --foreground --force --key-file="$dir/munge/key" --socket="$socket" --pid-file="$dir/munge/pid" \
    --log-file="$dir/munge/munged.log" --seed-file="$dir/munge/seed" 2>"$dir/munged.log" &
started+=($!)
until_true "munge's start" munge --socket="$socket" --no-input
slurmctld -D 2>/dev/null &
started+=($!)
slurmd -D -N n1 2>/dev/null &
started+=($!)
slurmd -D -N n2 2>/dev/null &
started+=($!)
both_idle() { [[ $(sinfo --noheader --format='%T %D') == "idle 2" ]]; }
until_true "the start of two nodes" both_idle

# The captures: all that there are here, several times, and damaged ones.
source=$dir/captures
for number in $(seq -w 1 8); do
    for fixture in two-vm arrows overwritten reboot unstable; do
        mkdir -p "$source/$number/$fixture"
        cp "$root/fixtures/$fixture"/* "$source/$number/$fixture"
    done
    tar -C "$root/fixtures" -czf "$source/$number/clock.tar.gz" kvmclock
done
mkdir "$source/damaged"
head -c 1000000 "$root/fixtures/two-vm/host.dat" >"$source/damaged/cut.dat"
captures=49

# One machine.
"$program" --quiet batch "$source" --out "$dir/alone" || (($? == 3)) || fail "the run on one machine failed"

# The cluster, with a worker killed once it has finished something.
export SOURCE=$source DEST=$dir/traces KVM_TIMELINE=$program
submit() {
    sbatch --quiet --array=1-4 --cpus-per-task=1 --mem-per-cpu=256M --output="$dir/task-%a.txt" "$@" "$root/deploy/slurm/array.sh"
}
submit
array=$(squeue --noheader --format=%F | head -n 1)
some_done() { [[ $(find "$DEST" -name '*.pftrace' 2>/dev/null | wc -l) -ge 3 ]]; }
until_true "the first output" some_done
victim=$(pgrep -f -- "$program --threads 1 batch $SOURCE" | head -n 1) || fail "all were done before one could be killed"
kill -KILL "$victim"
all_ended() { [[ -z $(squeue --noheader) ]]; }
until_true "the end of the array" all_ended
between=$(find "$DEST" -name '*.pftrace' | wc -l)
((between < captures)) || fail "nothing was left to do after one worker of four was killed"
# The killed worker's claims are free at once, as it ran on this machine.
submit --wait || true

# What all of them did.
code=0
"$program" batch --summary "$DEST" >"$dir/summary.txt" 2>&1 || code=$?
((code == 3)) || fail "the summary says $code, not 3, though one capture is damaged: $(cat "$dir/summary.txt")"
(cd "$dir/alone" && find . -name '*.pftrace' | sort) >"$dir/expected.txt"
(cd "$DEST" && find . -name '*.pftrace' | sort) >"$dir/found.txt"
diff "$dir/expected.txt" "$dir/found.txt" || fail "the cluster made other files than one machine"
while read -r file; do
    cmp "$dir/alone/$file" "$DEST/$file" || fail "$file differs"
done <"$dir/expected.txt"
(($(wc -l <"$dir/expected.txt") >= captures - 1)) || fail "outputs are missing: $(cat "$dir/expected.txt")"
stray=$(find "$DEST" -name '*.tmp' -o -name '.tmp*')
[[ -z $stray ]] || fail "left behind: $stray"
echo "slurm: array $array of 4 tasks over $captures captures; $between outputs when one worker had been killed," \
    "$(wc -l <"$dir/found.txt") after the array ran again, each once and equal to those of one machine"
