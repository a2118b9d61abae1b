# shellcheck shell=bash
# For the style checks, which source this: the files of the tree, and how to complain.

cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
problems=0

# Prints the files of the tree whose path matches a pattern of bash's [[ == ]], e.g. '*.[ch]', one a line.
tree_files() {
	local file pattern
	if git rev-parse --is-inside-work-tree > /dev/null 2>&1; then
		git ls-files --cached --others --exclude-standard
	else
		find . -type f -not -path './build*' -printf '%P\n'
	fi | sort -u | while read -r file; do
		for pattern; do
			# shellcheck disable=SC2053 # the right side is a pattern
			if [[ $file == $pattern && -f $file ]]; then
				echo "$file"
				break
			fi
		done
	done
}

# complain WHERE WHAT
complain() {
	echo "$1: $2"
	problems=$((problems + 1))
}

# Takes "file:line: what" lines on stdin, prints them and counts them.
complain_lines() {
	local line
	while read -r line; do
		echo "$line"
		problems=$((problems + 1))
	done
}

# The end of a check: its name, and the exit status.
finish() {
	if [ "$problems" -gt 0 ]; then
		echo "style/$1: $problems found"
		exit 1
	fi
	exit 0
}
