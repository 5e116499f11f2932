#!/bin/sh
# Records inside a guest for kvm-timeline. Needs root, a POSIX shell and tracefs; of programs only cat, echo, mkdir,
# rmdir and sleep. Uses a tracing instance of its own and removes it at the end, also on Ctrl-C.
#
#   sh guest.sh [-d SECONDS] [-b KIB_PER_CPU] [-e "EVENT EVENT ..."] [-o DIRECTORY]
#
# EVENT is SYSTEM or SYSTEM:EVENT, with * and ?. Ctrl-C ends the recording early; what was recorded is saved.
# The result is DIRECTORY (guest-HOSTNAME), and DIRECTORY.tar where there is tar: bring it to the host's recording.

seconds=@SECONDS@
buffer=@BUFFER@
events="@EVENTS@"
host=guest
[ -r /proc/sys/kernel/hostname ] && read -r host </proc/sys/kernel/hostname
out="guest-$host"

fail() {
	echo "$0: $1" >&2
	[ -n "$2" ] && echo "hint: $2" >&2
	exit 1
}

while getopts d:b:e:o: option; do
	case $option in
	d) seconds=$OPTARG ;;
	b) buffer=$OPTARG ;;
	e) events=$OPTARG ;;
	o) out=$OPTARG ;;
	*) fail "usage: $0 [-d SECONDS] [-b KIB_PER_CPU] [-e EVENTS] [-o DIRECTORY]" ;;
	esac
done

# Where tracefs is. TRACEFS says so where it is mounted elsewhere.
if [ -z "$TRACEFS" ]; then
	TRACEFS=/sys/kernel/tracing
	[ -d "$TRACEFS/instances" ] || TRACEFS=/sys/kernel/debug/tracing
fi
[ -d "$TRACEFS/instances" ] ||
	fail "no tracefs at /sys/kernel/tracing" "as root: mount -t tracefs tracefs /sys/kernel/tracing"
[ -e "$out" ] && fail "$out exists, and is not overwritten" "name another with -o"

clocks=
read -r clocks <"$TRACEFS/trace_clock"
case " $clocks " in
*x86-tsc*) ;;
*) fail "this kernel has no trace clock x86-tsc" "only x86 guests can be placed in the host's time to the cycle" ;;
esac

instance=$TRACEFS/instances/kvm-timeline
made=
readers=

put_back() {
	for reader in $readers; do
		kill "$reader" 2>/dev/null
	done
	readers=
	# The readers must be gone before the kernel lets go of the instance.
	wait
	if [ -n "$made" ]; then
		made=
		rmdir "$instance" || echo "$0: could not remove $instance" >&2
	fi
}

# set FILE VALUE: writes a file of the instance.
set_to() {
	echo "$2" >"$instance/$1" || fail "cannot write $2 to $instance/$1"
}

# save FROM TO: copies a small file, if it is there.
save() {
	[ -r "$1" ] && cat "$1" >"$2" 2>/dev/null
}

# counter FILE NAME: a number of per_cpu/cpuN/stats.
counter() {
	while IFS=': ' read -r a b c; do
		[ "$a" = "$2" ] && echo "$b" && return
		[ "$a $b" = "$2" ] && echo "$c" && return
	done <"$1"
	echo 0
}

# From here on a signal ends the recording, not the script.
ended=
trap put_back EXIT
trap 'ended=1' INT TERM HUP
mkdir "$instance" ||
	fail "cannot make $instance" "run as root; where a recording was killed before: rmdir $instance"
made=1

set_to tracing_on 0
set_to trace_clock x86-tsc
set_to buffer_size_kb "$buffer"
[ -e "$instance/options/record-tgid" ] && set_to options/record-tgid 1

formats=
for event in $events; do
	case $event in
	*:*) pattern=${event%%:*}/${event#*:} ;;
	*) pattern="$event/*" ;;
	esac
	found=
	# The pattern is meant to be expanded.
	# shellcheck disable=SC2086
	for file in "$instance"/events/$pattern/enable; do
		[ -e "$file" ] || continue
		found=1
		echo 1 >"$file" || fail "cannot enable $file"
		file=${file%/enable}
		formats="$formats ${file#"$instance"/events/}"
	done
	[ -n "$found" ] || echo "$0: this kernel has no event $event: left out" >&2
done
[ -n "$formats" ] || fail "there is nothing to record"

set_to tracing_on 1
echo "recording for $seconds s; Ctrl-C ends it earlier" >&2
if [ -z "$ended" ]; then
	sleep "$seconds" &
	sleeper=$!
	# Not for the sleeper in the foreground: a signal ends a wait.
	wait "$sleeper"
	kill "$sleeper" 2>/dev/null
fi
set_to tracing_on 0

mkdir -p "$out/events" || fail "cannot make $out"
for cpu in "$instance"/per_cpu/cpu*; do
	to=$out/per_cpu/${cpu##*/}
	mkdir -p "$to"
	# At the end of the buffer cat waits for more: it is ended below.
	cat "$cpu/trace_pipe_raw" >"$to/trace_pipe_raw" &
	readers="$readers $!"
done
tries=0
left=1
while [ "$left" != 0 ] && [ "$tries" -lt 60 ]; do
	sleep 1
	tries=$((tries + 1))
	left=0
	for cpu in "$instance"/per_cpu/cpu*; do
		entries=$(counter "$cpu/stats" entries)
		left=$((left + entries))
	done
done
# What was read last may not be written yet.
sleep 1
lost=0
for cpu in "$instance"/per_cpu/cpu*; do
	save "$cpu/stats" "$out/per_cpu/${cpu##*/}/stats"
	overrun=$(counter "$cpu/stats" overrun)
	dropped=$(counter "$cpu/stats" "dropped events")
	lost=$((lost + overrun + dropped))
done

save "$instance/trace_clock" "$out/trace_clock"
save "$TRACEFS/events/header_event" "$out/events/header_event"
header=$instance/events/header_page
[ -r "$header" ] || header=$TRACEFS/events/header_page
save "$header" "$out/events/header_page"
for event in $formats; do
	mkdir -p "$out/events/$event"
	save "$instance/events/$event/format" "$out/events/$event/format"
done
save "$TRACEFS/saved_cmdlines" "$out/saved_cmdlines"
save "$TRACEFS/saved_tgids" "$out/saved_tgids"
save "$TRACEFS/printk_formats" "$out/printk_formats"
save /proc/kallsyms "$out/kallsyms"

put_back
trap - EXIT INT TERM HUP
[ "$left" = 0 ] || echo "$0: $left events could not be read in time" >&2
[ "$lost" = 0 ] || echo "$0: $lost events were lost: record for a shorter time, or with larger buffers (-b)" >&2
parent=.
case $out in
/*) parent=${out%/*}/ ;;
*/*) parent=${out%/*} ;;
esac
if command -v tar >/dev/null 2>&1 && (cd "$parent" && tar -cf - "${out##*/}") >"$out.tar"; then
	echo "$out and $out.tar written" >&2
else
	echo "$out written" >&2
fi
