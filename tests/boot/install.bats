#!/usr/bin/env bats
# shellcheck disable=SC2153,SC2154 # the variables are of helper.bash
#
# What comes with the binary: manual pages, completion in three shells, installing, the Debian package. No guest runs.

load helper

# need PROGRAM: skips where it is missing. tests/deps installs them all.
need() {
	command -v "$1" > /dev/null || skip "no $1 here"
}

# Prints "COMMAND OPTION" for every option of every command, as its help has it, whatever the tables are.
options_of_help() {
	local name
	for name in $("$MAYFLY" --help | sed -n '/^Commands:/,/^$/s/^  \([a-z]*\) .*/\1/p'); do
		"$MAYFLY" "$name" --help | grep -oE '^ +(-., )?--[a-z-]+' | sed "s/.* /$name /"
	done
}

# complete_bash WORD...: what bash makes of a command line, on one line; the options that it sets on two.
complete_bash() {
	"$MAYFLY" completion bash > "$BATS_TEST_TMPDIR/script"
	# shellcheck disable=SC2016 # for the inner shell
	run bash -c 'set -eu; . "$1"; shift
		compopt() { echo "compopt $*"; }
		complete -p mayfly | grep -q "[-]F _mayfly" || exit 9
		COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _mayfly; echo "${COMPREPLY[*]}"' \
		bash "$BATS_TEST_TMPDIR/script" "$MAYFLY" "$@"
	assert_equal "$status" 0
}

@test "manual: all pages are good roff" {
	local page
	for page in 1 5 jailer; do
		"$MAYFLY" manual "$page" > "$BATS_TEST_TMPDIR/mayfly.$page"
		run mandoc -T lint -W warning "$BATS_TEST_TMPDIR/mayfly.$page"
		assert_equal "$output" ''
		LC_ALL=C.UTF-8 MANROFFSEQ='' MANWIDTH=80 run --separate-stderr \
			man --warnings -E UTF-8 -l -Tutf8 "$BATS_TEST_TMPDIR/mayfly.$page"
		assert_equal "$stderr" ''
		assert_equal "$status" 0
		[ "${#lines[@]}" -gt 50 ] || fail "only ${#lines[@]} lines"
	done
	assert_equal "$("$MAYFLY" manual)" "$(< "$BATS_TEST_TMPDIR/mayfly.1")"
	run_mayfly manual 2
	assert_equal "$status" 125
	assert_one_line "'2'"
}

@test "manual and completion: every option of every command's help, and nothing else" {
	local manual
	options_of_help | sort > "$BATS_TEST_TMPDIR/help"
	[ "$(wc -l < "$BATS_TEST_TMPDIR/help")" -gt 20 ] || fail "the help has too few options"
	"$MAYFLY" manual | awk '/^\.SH/ { command = "" } /^\.SS/ { command = $3 }
		/^\\fB/ && command { gsub(/\\-/, "-"); gsub(/\\f./, " "); match($0, /--[a-z-]+/)
			print command, substr($0, RSTART, RLENGTH) }' | sort > "$BATS_TEST_TMPDIR/manual"
	run diff "$BATS_TEST_TMPDIR/help" "$BATS_TEST_TMPDIR/manual"
	assert_equal "$output" ''
	cut -d ' ' -f 1 "$BATS_TEST_TMPDIR/help" | sort -u | while read -r command; do
		"$MAYFLY" completion -- "$command" - | sed "s/\t.*//; s/^/$command /"
	done | sort > "$BATS_TEST_TMPDIR/completion"
	# `mayfly bench` takes the options of `mayfly run`, too; `mayfly clone` and `mayfly pool` those of `mayfly restore`.
	{ cat "$BATS_TEST_TMPDIR/help"; sed -n 's/^run /bench /p; s/^restore \(.*\)/clone \1\npool \1/p' "$BATS_TEST_TMPDIR/help"; } |
		sort -u > "$BATS_TEST_TMPDIR/all"
	run diff "$BATS_TEST_TMPDIR/all" "$BATS_TEST_TMPDIR/completion"
	assert_equal "$output" ''
	manual=$("$MAYFLY" --help | sed -n '/^Commands:/,/^$/s/^  \([a-z]*\) .*/\1/p' | sort)
	assert_equal "$("$MAYFLY" completion -- '' | cut -f 1 | grep -v '^-' | sort)" "$manual"
}

@test "completion: bash" {
	need bash
	complete_bash 'do'
	assert_output doctor
	complete_bash run --entry l
	assert_output linux64
	complete_bash run --entry = ''
	assert_output 'auto linux64 pvh'
	complete_bash run --entry =
	assert_output 'auto linux64 pvh'
	complete_bash run -n ta
	assert_output $'compopt -o nospace\ntap='
	complete_bash run -d ''
	assert_output 'compopt -o default'
	complete_bash run -c ''
	assert_output ''
}

@test "completion: fish" {
	need fish
	cd "$BATS_TEST_TMPDIR" || return 1
	"$MAYFLY" completion fish > script
	touch vm-image
	PATH=$PATH:$(dirname "$MAYFLY")
	[ "$(basename "$MAYFLY")" = mayfly ] || skip "another name"
	fish_says() { HOME=$PWD run fish --no-config -c "source script; complete -C '$1'"; }
	fish_says 'mayfly do'
	assert_output --regexp '^doctor.check'
	fish_says 'mayfly run --entry l'
	assert_output --regexp '^linux64.auto'
	fish_says 'mayfly run --entry=l'
	assert_output --regexp '^--entry=linux64.auto'
	fish_says 'mayfly run -k vm'
	assert_output 'vm-image'
	fish_says 'mayfly run --kernel=vm'
	assert_output -- '--kernel=vm-image'
	fish_says 'mayfly run -c '
	assert_output ''
}

@test "completion: zsh" {
	need zsh
	"$MAYFLY" completion zsh > "$BATS_TEST_TMPDIR/script"
	# shellcheck disable=SC2016 # for the inner shell
	zsh_says() {
		run zsh -f -c 'compdef() { :; }; . "$1"; shift
			_describe() { print -r -- "${(P)2} ${@[3,-1]}"; }; _files() { print files; }; compset() { :; }
			words=("$@"); CURRENT=$#; _mayfly' zsh "$BATS_TEST_TMPDIR/script" "$MAYFLY" "$@"
		assert_equal "$status" 0
	}
	zsh_says 'do'
	assert_output --regexp '^doctor:check'
	zsh_says run --entry l
	assert_output --regexp '^linux64:auto'
	zsh_says run -n ta
	assert_line --regexp '^tap=:none.* -S $'
	zsh_says run --kernel=vm
	assert_output files
	assert_equal "$(head -1 "$BATS_TEST_TMPDIR/script")" '#compdef mayfly'
}

@test "completion: mistakes" {
	run_mayfly completion csh
	assert_equal "$status" 125
	assert_one_line "'csh': must be bash, zsh or fish"
	run_mayfly completion
	assert_equal "$status" 125
	assert_one_line 'no shell given'
	run_mayfly completion bash zsh
	assert_equal "$status" 125
	assert_one_line "'zsh'"
	run_mayfly completion --
	assert_equal "$status" 0
	assert_equal "$output" ''
}

@test "install and uninstall: another prefix, whose kernel is found, and nothing is left" {
	local to=$BATS_TEST_TMPDIR/to file
	make -s -C "$root" install B="$B" DESTDIR="$to" PREFIX=/opt/x
	mkdir -p "$to/opt/x/share/mayfly"
	[ -e "$to/opt/x/share/mayfly/vmlinux" ] || cp "$GUESTS/hello.elf" "$to/opt/x/share/mayfly/vmlinux"
	MAYFLY_KERNEL='' MAYFLY=$to/opt/x/bin/mayfly run_mayfly run --dry-run -i initrd
	assert_equal "$status" 0
	assert_line --partial "\"kernel\": \"$to/opt/x/share/mayfly/vmlinux\""
	touch "$to/opt/x/share/mayfly/vmlinux-minimal"
	MAYFLY=$to/opt/x/bin/mayfly run_mayfly run --dry-run --kernel minimal -i initrd
	assert_line --partial "\"kernel\": \"$to/opt/x/share/mayfly/vmlinux-minimal\""
	MAYFLY_KERNEL='' MAYFLY=$to/opt/x/bin/mayfly run_mayfly doctor
	assert_line --regexp "^(ok|warn) +kernel .*$to/opt/x/share/mayfly/vmlinux"
	[ -s "$to/opt/x/share/man/man5/mayfly.5" ]
	assert_equal "$(readlink -f "$to/opt/x/lib/mayfly/jailer")" "$(readlink -f "$to/opt/x/bin/mayfly")"
	grep -o '](docs/[^)#]*' "$root/README.md" | cut -c 3- | while read -r file; do
		[ -s "$to/opt/x/share/doc/mayfly/$file" ] || fail "the README's $file is not installed"
	done
	cmp "$to/opt/x/share/bash-completion/completions/mayfly" <("$MAYFLY" completion bash)
	cmp "$to/opt/x/share/zsh/site-functions/_mayfly" <("$MAYFLY" completion zsh)
	cmp "$to/opt/x/share/fish/vendor_completions.d/mayfly.fish" <("$MAYFLY" completion fish)
	make -s -C "$root" uninstall B="$B" DESTDIR="$to" PREFIX=/opt/x
	make -s -C "$root" uninstall B="$B" DESTDIR="$to" PREFIX=/opt/x
	assert_equal "$(find "$to" ! -type d -o -name mayfly)" ''
}

@test "deb: it installs, runs, goes, and lintian finds no error" {
	need lintian
	local to=$BATS_TEST_TMPDIR/to deb file
	mkdir -p "$to/var/lib/dpkg/updates" "$to/var/lib/dpkg/info"
	: > "$to/var/lib/dpkg/status"
	: > "$to/var/lib/dpkg/available"
	# xz would take ten seconds for the kernel.
	DPKG_DEB_COMPRESSOR_TYPE=gzip DPKG_DEB_COMPRESSOR_LEVEL=1 \
		run --separate-stderr "$root/configs/debian/build" "$B" "$BATS_TEST_TMPDIR"
	assert_equal "$stderr" ''
	assert_equal "$status" 0
	deb=$output
	assert_equal "$(dpkg-deb -f "$deb" Version)" "$("$MAYFLY" --version | cut -d ' ' -f 2)"
	run lintian --allow-root --fail-on error "$deb"
	assert_equal "$status" 0
	if [ "$(id -u)" != 0 ]; then
		dpkg-deb -x "$deb" "$to"
	else
		dpkg --root="$to" --log=/dev/null --force-depends -i "$deb"
	fi
	assert_equal "$("$to/usr/bin/mayfly" --version)" "$("$MAYFLY" --version)"
	assert_equal "$(zcat "$to/usr/share/man/man1/mayfly.1.gz")" "$("$MAYFLY" manual 1)"
	for file in vmlinux vmlinux-microvm vmlinux-minimal; do
		[ ! -e "$B/$file" ] || cmp "$B/$file" "$to/usr/share/mayfly/$file"
	done
	[ "$(id -u)" = 0 ] || return 0
	dpkg --root="$to" --log=/dev/null -P mayfly
	[ ! -e "$to/usr/bin/mayfly" ] || fail "it did not go"
}

@test "dist: a tar of all that is installed, the same bytes each time, and its checksum" {
	local tar
	mkdir "$BATS_TEST_TMPDIR/one" "$BATS_TEST_TMPDIR/two"
	tar=$("$root/configs/dist" "$B" "$BATS_TEST_TMPDIR/one")
	"$root/configs/dist" "$B" "$BATS_TEST_TMPDIR/two"
	cmp "$tar" "$BATS_TEST_TMPDIR/two/${tar##*/}"
	cd "$BATS_TEST_TMPDIR/one"
	sha256sum -c "$tar.sha256"
	tar -xf "$tar"
	cd "$(basename "$tar" .tar.gz)"
	assert_equal "$(./bin/mayfly --version)" "$("$MAYFLY" --version)"
	[ -s share/man/man1/mayfly.1 ]
}
