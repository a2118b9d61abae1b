#compdef mayfly
# zsh completion for mayfly. It asks mayfly itself, which knows its options.
_mayfly() {
	local line word
	local -a answer whole open
	answer=("${(@f)$(${~words[1]} completion -- "${(@Q)words[2,CURRENT]}" 2> /dev/null)}")
	if [[ $answer[1] == :files ]]; then
		compset -P '--*='
		_files
		return
	fi
	for line in $answer; do
		word=${line%%$'\t'*}
		word=${word//:/\\:}:${line#*$'\t'}
		if [[ $line == *=$'\t'* ]]; then
			open+=("$word") # a word that continues
		else
			whole+=("$word")
		fi
	done
	_describe mayfly whole
	[ "$#open" = 0 ] || _describe mayfly open -S ''
}
if [ "$funcstack[1]" = _mayfly ]; then
	_mayfly "$@"
else
	compdef _mayfly mayfly
fi
