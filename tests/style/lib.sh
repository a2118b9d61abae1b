# shellcheck shell=bash
# For the style checks, which source this: the files of the tree, and how to complain.

cd "${BASH_SOURCE[0]%/*}/../.." || exit 1
problems=0

# tree_files PATTERN...: fills the array files with the paths of the tree that match one of these patterns of bash's
# [[ == ]], e.g. '*.[ch]'. There is one, or the caller has looked for nothing.
tree_files() {
	local list file pattern
	if git rev-parse --is-inside-work-tree > /dev/null 2>&1; then
		list=$(git ls-files --cached --others --exclude-standard)
	else
		list=$(find . -type f -not -path './build*' -printf '%P\n')
	fi
	list=$(sort -u <<< "$list")
	files=()
	while read -r file; do
		for pattern; do
			# shellcheck disable=SC2053 # the right side is a pattern
			if [[ $file == $pattern && -f $file ]]; then
				files+=("$file")
				break
			fi
		done
	done <<< "$list"
	[ ${#files[@]} -gt 0 ] || { echo "no file of the tree is like $*" && exit 1; }
}

# lines_like PATTERN [OPTION...] FILE...: grep's, of which none is as well as some, but not its failures.
lines_like() {
	grep -nE "$@" || [ $? -eq 1 ]
}

# complain WHERE WHAT
complain() {
	echo "$1: $2"
	problems=$((problems + 1))
}

# complain_lines TEXT: prints and counts lines "file:line: what".
complain_lines() {
	local line
	[ -n "$1" ] || return 0
	while read -r line; do
		echo "$line"
		problems=$((problems + 1))
	done <<< "$1"
}

# The end of a check: its name, and the exit status.
finish() {
	if [ "$problems" -gt 0 ]; then
		echo "style/$1: $problems found"
		exit 1
	fi
	exit 0
}
