# shellcheck shell=bash
# For scripts whose results take minutes and are kept in ${XDG_CACHE_HOME:-~/.cache}/mayfly. Sourced with the NAME of
# the result, which also names the lock and begins the messages:
#
#	. cached.sh NAME
#	cached DIR FUNCTION [ARG...]	lets FUNCTION make DIR, unless it exists; if DIR is '', only runs FUNCTION
#	progress PERCENT WHAT [NEXT]	reports how far FUNCTION is, what it does, and what it does next
#
# FUNCTION finds an empty directory, $work, and leaves its result in $work/result, which becomes DIR in one step. It runs
# in a process group of its own, which is killed when the script ends, on any signal: other signals end the script in
# stop(); after SIGKILL a watcher in the group gets the lock that the script has held, and kills it. $work goes with the
# script, too; only SIGKILL leaves it behind, for the next run to remove.

cache=${XDG_CACHE_HOME:-$HOME/.cache}/mayfly
cached_name=$1
work='' cached_group='' cached_lock='' progress_step='' progress_told=0

# Files of subordinate ids, which mmdebstrap without root makes, are removed by root of a namespace that has these ids. A
# process that was just killed may still have made a file: then try again.
remove() {
	rm -rf "$@" 2> /dev/null || { sleep 0.2 && rm -rf "$@" 2> /dev/null; } ||
		unshare --map-root-user --map-auto --setgroups allow rm -rf "$@"
}

# How many columns of the terminal there are for a line; none, if standard error is no terminal.
progress_columns() {
	local size=
	[ ! -t 2 ] || size=$(stty size <&2 2> /dev/null) || size=
	size=${size#* }
	[ ! -t 2 ] || echo "$((${size:-80} > 20 ? ${size:-80} - 1 : 79))"
}
progress_width=$(progress_columns)

# On a terminal, rewrites one line; otherwise prints a line for each step, and for each 20 % of a long one.
progress() {
	local text="$cached_name: $1 %, $2${3:+; next: $3}"
	if [ -n "$progress_width" ]; then
		printf '\r\033[K%s' "${text:0:progress_width}" >&2
	elif [ "${2%% (*}" != "$progress_step" ] || [ "$1" -ge $((progress_told + 20)) ]; then
		echo "$text" >&2
		progress_step=${2%% (*} progress_told=$1
	fi
}

# progress_lines FROM TO LINES PATTERN WHAT [NEXT]: copies its input, of which about so many LINES are like PATTERN; they
# take the progress from FROM to TO percent.
progress_lines() {
	local from=$1 to=$2 total=$3 pattern=$4 what=$5 next=${6:-} line n=0
	while IFS= read -r line; do
		printf '%s\n' "$line"
		[[ $line =~ $pattern ]] || continue
		n=$((n < total ? n + 1 : total))
		progress $((from + (to - from) * n / total)) "$what ($n of about $total)" "$next"
	done
}

# Ends the group, and waits until no process of it is left: 5 seconds at most.
cached_end() {
	local try
	for ((try = 0; try < 100; try++)); do
		if [ -z "$cached_group" ] || ! kill -KILL -- "-$cached_group" 2> /dev/null; then break; fi
		wait "$cached_group" 2> /dev/null || true
		sleep 0.05
	done
	cached_group=
	[ -z "$work" ] || remove "$work"
	work=
	[ -z "$progress_width" ] || printf '\r\033[K' >&2
}

cached_stop() {
	trap '' HUP INT QUIT TERM
	echo "${progress_width:+$'\r\033[K'}$cached_name: ended by a signal; removing what is half made" >&2
	cached_end
	exit "$1"
}

# Runs a function without the files that this script has open, beside a watcher that gets $work/alive when this script ends.
cached_guarded() {
	local alive status=0
	trap cached_end EXIT
	trap 'cached_stop 129' HUP
	trap 'cached_stop 130' INT
	trap 'cached_stop 131' QUIT
	trap 'cached_stop 143' TERM
	exec {alive}> "$work/alive"
	flock "$alive"
	set -m
	(
		set +m
		trap - EXIT HUP INT QUIT TERM
		trap '' TTOU # a terminal may be set to stop the writers of other groups
		exec {alive}>&- {cached_lock}>&-
		flock "$work/alive" sh -c 'kill -KILL 0' > /dev/null 2>&1 &
		"$@"
	) < /dev/null &
	cached_group=$!
	set +m
	wait "$cached_group" || status=$?
	kill -KILL -- "-$cached_group" 2> /dev/null || true
	exec {alive}>&-
	[ "$status" -eq 0 ] || exit "$status"
}

cached() {
	local dir=$1 stale
	shift
	mkdir -p "$cache"
	if [ -n "$dir" ] && [ -d "$dir" ] && ! compgen -G "$cache/build.$cached_name.*" > /dev/null; then
		return 0
	fi
	exec {cached_lock}> "$cache/$cached_name.lock"
	if ! flock -n "$cached_lock"; then
		[ ! -d "$dir" ] || { exec {cached_lock}>&- && return 0; }
		echo "$cached_name: waiting for another run that makes it" >&2
		setpriv --pdeathsig KILL flock "$cached_lock"
	fi
	for stale in "$cache/build.$cached_name."*; do
		[ ! -e "$stale" ] || remove "$stale"
	done
	if [ -z "$dir" ] || [ ! -d "$dir" ]; then
		work=$(mktemp -d "$cache/build.$cached_name.XXXXXX")
		cached_guarded "$@"
		[ -z "$dir" ] || mv -T "$work/result" "$dir"
		cached_end
		trap - EXIT HUP INT QUIT TERM
	fi
	exec {cached_lock}>&-
}
