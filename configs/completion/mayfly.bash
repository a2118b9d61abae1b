# bash completion for mayfly. It asks mayfly itself, which knows its options.
_mayfly() {
	local line answer
	answer=$("${COMP_WORDS[0]}" completion -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2> /dev/null) || return 0
	COMPREPLY=()
	if [ "$answer" = :files ]; then
		compopt -o default
		return 0
	fi
	while IFS= read -r line; do
		line=${line%%$'\t'*}
		[ -z "$line" ] || COMPREPLY+=("$line")
	done <<< "$answer"
	# A word that continues.
	[ "${#COMPREPLY[@]}" -ne 1 ] || [ "${COMPREPLY[0]}" = "${COMPREPLY[0]%=}" ] || compopt -o nospace
}
complete -F _mayfly mayfly
