#!/usr/bin/env bats
# shellcheck disable=SC2016,SC2030,SC2031,SC2153,SC2154 # each test is a subshell; the variables are of helper.bash
#
# Images of containers: names, what an image says of its command, pulling from a registry of this machine. No guest runs:
# --dry-run shows what would, and files are read from the image. What a guest sees is in image_run.bats.

load helper

setup() {
	started=()
	cd "$BATS_TEST_TMPDIR" || return 1
	export XDG_CACHE_HOME=$PWD/cache HOME=$PWD
	export MAYFLY_KERNEL=$PWD/kernel # of which --dry-run wants no more than that it is there
	touch kernel
	images=$PWD/cache/mayfly/images
	unset "${!DOCKER_@}" REGISTRY_AUTH_FILE XDG_CONFIG_HOME XDG_RUNTIME_DIR
	bwrap --unshare-pid --ro-bind / / true || skip "bubblewrap cannot make a sandbox here"
	[ "$EUID" -eq 0 ] || unshare --map-root-user --map-auto true || skip "this user has no subordinate ids here"
}

teardown() {
	kill_started
	end_test
}

# image TAG ARG...: makes it in the layout ./oci.
image() {
	"$PYTHON" -I -S "$BATS_TEST_DIRNAME/oci-image" "oci:$1" "${@:2}"
}

# plan ARG...: what a run would be. Sets $plan, JSON.
plan() {
	run_mayfly run --quiet --dry-run "$@"
	assert_equal "$status" 0
	plan=$output
}

# of_plan EXPRESSION: of $plan, as Python's c.
of_plan() {
	"$PYTHON" -I -S -c 'import json, sys; c = json.loads(sys.argv[1]); print(eval(sys.argv[2]))' "$plan" "$1"
}

refused() { # REGEX ARG...
	run_mayfly run --dry-run "${@:2}"
	assert_equal "$status" 125
	assert_regex "$stderr" "$1"
	refute_regex "$output" .
}

# Extracts the only image of the cache.
extract() {
	rm -rf extracted
	fsck.erofs --extract=extracted --preserve "$(find "$images" -name '*.erofs')" > /dev/null
}

nothing_is_left() {
	assert_equal "$(find "$images" -name '*.pull*' -o -name '*.erofs.*' ! -name '*.source')" ""
}

# start_registry: at 127.0.0.1:$port, with its files in ./registry, and http.
start_registry() {
	port=$("$PYTHON" -I -S -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
	mkdir -p registry
	cat > registry.yml <<- END
		version: 0.1
		storage: {filesystem: {rootdirectory: $PWD/registry}, delete: {enabled: true}}
		http: {addr: "127.0.0.1:$port"}
		log: {level: error}
		$(cat extra.yml 2> /dev/null)
	END
	trust_registry
	docker-registry serve registry.yml > registry.log 2>&1 3>&- &
	registry=$!
	started+=("$registry")
	wait_for registry_answers
}

# skopeo takes it without TLS.
trust_registry() {
	mkdir -p .config/containers
	printf '[[registry]]\nlocation = "127.0.0.1:%s"\ninsecure = true\n' "$port" > .config/containers/registries.conf
}

registry_answers() { (: < "/dev/tcp/127.0.0.1/$port") 2> /dev/null; }

# push TAG NAME [OPTION...]
push() {
	skopeo copy -q --dest-tls-verify=false "${@:3}" "oci:oci:$1" "docker://127.0.0.1:$port/$2"
}

@test "image: what it says of its command, and what the user says instead" {
	image one '{"Entrypoint": ["/bin/entry", "-x"], "Cmd": ["a", "b"], "Env": ["A=1", "B=2"], "WorkingDir": "srv",
		"User": "u:g", "Volumes": {"/data": {}}, "StopSignal": "SIGINT"}' 'd:bin f:bin/entry:755'
	plan oci:oci:one
	assert_equal "$(of_plan 'c["command"]')" "['/bin/entry', '-x', 'a', 'b']"
	assert_equal "$(of_plan '(c["env"], c["workdir"], c["user"])')" "(['A=1', 'B=2'], '/srv', 'u:g')"
	plan -e B=3 -w /tmp -u 5 oci:oci:one -c --mem
	assert_equal "$(of_plan 'c["command"]')" "['/bin/entry', '-x', '-c', '--mem']"
	assert_equal "$(of_plan '(c["env"], c["workdir"], c["user"])')" "(['A=1', 'B=2', 'B=3'], '/tmp', '5')"
	plan oci:oci:one -- -- x
	assert_equal "$(of_plan 'c["command"]')" "['/bin/entry', '-x', '--', 'x']"
	plan --entrypoint /other oci:oci:one
	assert_equal "$(of_plan 'c["command"]')" "['/other']"
	plan --entrypoint '' oci:oci:one y
	assert_equal "$(of_plan 'c["command"]')" "['y']"
	image two '{"Cmd": null, "Entrypoint": []}' 'd:bin'
	refused 'no command' oci:oci:two
	plan oci:oci:two sh
	assert_equal "$(of_plan 'c["command"]')" "['sh']"
}

@test "image: files with variables, and all ports" {
	image one '{"Cmd": ["x"], "ExposedPorts": {"80/tcp": {}, "53/udp": {}, "8080": {}}}' 'd:bin'
	printf '# a comment\n\nA=1 2\r\nFROM_HERE\nNOT_HERE\nB==\n' > env.txt
	FROM_HERE=here plan --env-file env.txt -P oci:oci:one
	assert_equal "$(of_plan 'c["env"]')" "['A=1 2', 'FROM_HERE=here', 'B==']"
	assert_equal "$(of_plan 'sorted(c["publish"])')" "['53/udp', '80', '8080']"
	printf '=x\n' > env.txt
	refused 'env-file.*line 1' --env-file env.txt oci:oci:one
	printf 'A=\0\n' > env.txt
	refused 'env-file.*NUL' --env-file env.txt oci:oci:one
	refused 'env-file' --env-file nowhere oci:oci:one
	refused 'need an image' -P -r /
	# What users of docker type, and what means something else here.
	plan --interactive --no-tty oci:oci:one
	refused '-t gives the command' -it oci:oci:one
	refused '--detach' -d alpine:3.20
	refused 'choose one' -r / oci:oci:one
}

@test "image: a path is none" {
	mkdir -p root/bin
	plan ./root true
	assert_equal "$(of_plan '(c["drives"][0]["path"], c["command"])')" "('./root', ['true'])"
	plan "$PWD/root" -- true
	assert_equal "$(of_plan 'c["drives"][0]["path"]')" "$PWD/root"
	local name
	for name in '' 'a b\nc' 'docker:///x' 'oci:-x' 'oci:nowhere' "$(printf 'a\tb')" "$(printf '%02000d' 0)"; do
		refused "image|must" "$name" x
	done
}

@test "image: one that lies about its configuration is refused" {
	local config
	for config in '{"Cmd": "x"}' '{"Cmd": [1]}' '{"Env": ["HOME"]}' '{"Env": ["=x"]}' '{"User": 5}' '{"ExposedPorts": []}' \
		'{"WorkingDir": {}}'; do
		image bad "$config" 'd:bin'
		refused 'configuration|config' oci:oci:bad x
		nothing_is_left
	done
	image bad '{"ExposedPorts": {"99999": {}}}' 'd:bin'
	refused 'ExposedPorts' -P oci:oci:bad x
	image user '{"User": "a:b:c"}' 'd:bin'
	refused 'User' oci:oci:user x
	image arm --arch arm64 '{"Cmd": ["x"]}' 'd:bin'
	refused 'arm64' oci:oci:arm
	nothing_is_left
}

@test "image: owners, modes, links, whiteouts and capabilities arrive" {
	local file_capability=0100000200040000000000000000000000000000
	image one '{"Cmd": ["x"]}' \
		'd:srv d:srv/u:700:1000:1001 f:srv/u/file:4751:1000:1001:text f:gone f:dir/one f:dir/two l:hard:srv/u/file' \
		"f:.wh.gone f:dir/.wh..wh..opq f:dir/new s:link:/srv x:capable:$file_capability" \
		'c:null'
	run_mayfly run --dry-run oci:oci:one
	assert_equal "$status" 0
	[ "$EUID" -eq 0 ] || assert_regex "$stderr" "'/null' is a device"
	local file
	file=$(find "$images" -name '*.erofs')
	assert_regex "$(dump.erofs --path=/srv/u/file "$file")" 'Uid: 1000 +Gid: 1001 +Access: 0751'
	assert_regex "$(dump.erofs --path=/srv/u "$file")" 'Uid: 1000 +Gid: 1001 +Access: 0700'
	assert_regex "$(dump.erofs --path=/hard "$file")" 'Links: 2'
	if [ "$EUID" -eq 0 ]; then
		extract
		assert_equal "$(cd extracted && find . | LC_ALL=C sort | tr '\n' ' ')" \
			'. ./capable ./dir ./dir/new ./hard ./link ./null ./srv ./srv/u ./srv/u/file '
		assert_equal "$(stat -c '%F' extracted/null)" 'character special file'
	fi
}

@test "image: layers that lead out of the root stay in it" {
	mkdir outside
	echo old > outside/file
	image one '{"Cmd": ["x"]}' \
		"f:../../../../../$PWD/outside/new" "s:way:$PWD/outside f:way/new2" "l:hard:../../../../$PWD/outside/file" \
		"s:up:../../../../../../..$PWD/outside f:up/new3 f:.wh...:644"
	run_mayfly run --dry-run oci:oci:one # refused, or taken: both are right
	assert_equal "$(ls outside)" file
	assert_equal "$(cat outside/file)" old
	assert_equal "$(stat -c %h outside/file)" 1
	nothing_is_left
}

@test "image: many layers, and layers that umoci cannot read" {
	local layers=() i
	for i in {1..40}; do
		layers+=("f:file:644:0:0:$i f:only$i")
	done
	image many '{"Cmd": ["x"]}' "${layers[@]}"
	plan oci:oci:many
	assert_regex "$(dump.erofs --path=/only40 "$(find "$images" -name '*.erofs')")" 'regular file'
	rm -rf "$images"
	image zstd --zstd '{"Cmd": ["x"]}' 'f:file:644:0:0:text'
	plan oci:oci:zstd
	assert_regex "$(dump.erofs --path=/file "$(find "$images" -name '*.erofs')")" 'Size: 4'
	rm -rf "$images"
	printf begin > holes
	truncate -s 1M holes
	printf end >> holes
	tar --format=gnu -cSf gnu.tar holes
	image gnu '{"Cmd": ["x"]}' =gnu.tar
	refused 'sparse file.*--format=posix.* holes: ' oci:oci:gnu
	nothing_is_left
	tar --format=posix -cSf posix.tar holes
	image posix '{"Cmd": ["x"]}' =posix.tar
	plan oci:oci:posix
	fsck.erofs --extract=extracted "$(find "$images" -name '*.erofs')" > /dev/null
	cmp holes extracted/holes
}

@test "image: a layout that changes or is damaged" {
	image one '{"Cmd": ["x"]}' 'f:file:644:0:0:text'
	plan oci:oci:one
	image one '{"Cmd": ["y"]}' 'f:file:644:0:0:other'
	plan oci:oci:one # as it was pulled
	assert_equal "$(of_plan 'c["command"]')" "['x']"
	plan --pull always oci:oci:one
	assert_equal "$(of_plan 'c["command"]')" "['y']"
	local blob
	image two '{"Cmd": ["x"]}' 'f:file:644:0:0:third'
	blob=$("$PYTHON" -I -S -c 'import json
m = [m for m in json.load(open("oci/index.json"))["manifests"] if "two" in str(m)][0]
print(json.load(open("oci/blobs/sha256/" + m["digest"][7:]))["layers"][0]["digest"][7:])')
	printf x >> "oci/blobs/sha256/$blob"
	refused 'skopeo has failed|umoci has failed' oci:oci:two
	nothing_is_left
	rm "oci/blobs/sha256/$blob"
	refused 'has failed' oci:oci:two
	nothing_is_left
	refused 'nowhere' oci:nowhere:one
	refused 'never' --pull never oci:oci:two
}

@test "image: archives" {
	image one '{"Cmd": ["x"]}' 'f:file:644:0:0:text'
	skopeo copy -q oci:oci:one oci-archive:one.tar:one
	skopeo copy -q oci:oci:one docker-archive:two.tar:two:latest
	plan oci-archive:one.tar
	assert_equal "$(of_plan 'c["command"]')" "['x']"
	plan docker-archive:two.tar
	assert_equal "$(of_plan 'c["command"]')" "['x']"
	truncate -s 3000 one.tar
	refused 'has failed' --pull always oci-archive:one.tar
	nothing_is_left
}

@test "image: a list of several platforms: this machine's is taken; without one, they are named" {
	image amd --arch amd64 '{"Cmd": ["amd"]}' 'f:file:644:0:0:text'
	image arm --arch arm64 '{"Cmd": ["arm"]}' 'f:file:644:0:0:other'
	image power --arch ppc64le '{"Cmd": ["power"]}' 'f:file:644:0:0:third'
	image all --list arm amd power
	image others --list arm power
	plan oci:oci:all
	assert_equal "$(of_plan 'c["command"]')" "['amd']"
	refused 'linux/ppc64le, linux/arm64, and not for linux/amd64' oci:oci:others
	nothing_is_left
}

# too_large REGEX IMAGE: it is refused, and the cache has nothing of it.
too_large() {
	run_mayfly run "${@:2}"
	assert_equal "$status" 125
	assert_regex "$stderr" "$1.*1M bytes.*MAYFLY_IMAGE_MAX"
	nothing_is_left
	assert_equal "$(find "$images" -name '*.erofs' -o -name '*.squashfs' | wc -l)" 1
}

@test "image: one that unpacks to too much is refused before it does, by its layer and file" {
	export MAYFLY_IMAGE_MAX=1M
	truncate -s 1T sparse
	truncate -s 2M zeros
	truncate -s 600K half
	mkdir many
	touch many/{1..257} # each has a block of 4 KiB
	local name
	for name in sparse zeros half many; do
		tar --format=posix -cSf "$name.tar" "$name"
	done
	tar -cf zeros.tar zeros
	image small '{"Cmd": ["x"]}' 'd:etc f:etc/file:644:0:0:text' =half.tar
	plan oci:oci:small
	for name in sparse zeros many; do
		image "$name" 'f:file:644:0:0:text' "=$name.tar"
		too_large "layer 'sha256:[0-9a-f]{64}': with '$name.*'" "oci:oci:$name"
	done
	image sum =half.tar 'f:file:644:0:0:text' =half.tar
	too_large "layer 'sha256:[0-9a-f]{64}': with 'half'" oci:oci:sum
	# An archive that is a bomb itself: skopeo unpacks it.
	MAYFLY_IMAGE_MAX=1G skopeo copy -q oci:oci:zeros docker-archive:bomb.tar:x:y
	gzip bomb.tar
	too_large "" docker-archive:bomb.tar.gz
	# What a manifest says of its size does not matter; the root as an archive has the same bound.
	for name in sparse zeros many; do
		too_large "$name.tar': with '$name.*'" -r "$name.tar" -- x
		gzip "$name.tar"
		too_large "$name.tar.gz': with '$name.*'" -r "$name.tar.gz" -- x
	done
	MAYFLY_IMAGE_MAX=1X refused 'MAYFLY_IMAGE_MAX' --pull always oci:oci:small
}

# It writes 2.1 GiB: `make check-large`.
# bats test_tags=large
@test "image: a layer of more than 2 GiB" {
	truncate -s 2100M large
	tar --format=posix -cSf large.tar large
	image large '{"Cmd": ["x"]}' =large.tar
	plan oci:oci:large
	assert_regex "$(dump.erofs --path=/large "$(find "$images" -name '*.erofs')")" 'Size: 2202009600'
	nothing_is_left
}

@test "image: a registry" {
	start_registry
	image one '{"Cmd": ["one"]}' 'f:file:644:0:0:text'
	image two '{"Cmd": ["two"]}' 'f:file:644:0:0:other'
	push one some/image:1
	plan "127.0.0.1:$port/some/image:1"
	assert_equal "$(of_plan 'c["command"]')" "['one']"
	push two some/image:1
	plan "docker://127.0.0.1:$port/some/image:1" # another way to say the same
	assert_equal "$(of_plan 'c["command"]')" "['one']"
	plan --pull always "127.0.0.1:$port/some/image:1"
	assert_equal "$(of_plan 'c["command"]')" "['two']"
	local digest
	digest=$(skopeo inspect --tls-verify=false --format '{{.Digest}}' "docker://127.0.0.1:$port/some/image:1")
	run_mayfly run --dry-run "127.0.0.1:$port/some/image@$digest" # the cache has it, by another name
	assert_equal "$status" 0
	refute_regex "$stderr" unpacking
	run_mayfly images ls
	assert_equal "${#lines[@]}" 2
	assert_regex "$output" "${digest:7:12} .*MiB .* 127.0.0.1:$port/some/image:1"
	refused 'manifest unknown' "127.0.0.1:$port/some/image:9"
	refused 'has failed' "127.0.0.1:$port/nothing"
	nothing_is_left
	kill "$registry"
	wait_for has_ended "$registry"
	plan "127.0.0.1:$port/some/image:1"
	refused 'refused' --pull always "127.0.0.1:$port/some/image:1"
	run_mayfly images rm "127.0.0.1:$port/some/image:1" "127.0.0.1:$port/some/image@$digest"
	assert_equal "$status" 0
	refused 'never' --pull never "127.0.0.1:$port/some/image:1"
	run_mayfly images rm "127.0.0.1:$port/some/image:1"
	assert_equal "$status" 125
	run_mayfly images prune
	assert_equal "$status" 0
	assert_equal "$(ls "$images")" ""
}

@test "image: a registry that asks who it is" {
	command -v htpasswd > /dev/null || skip "htpasswd (apache2-utils) is missing"
	htpasswd -nbB me secret > passwords
	echo "auth: {htpasswd: {realm: here, path: $PWD/passwords}}" > extra.yml
	start_registry
	image one '{"Cmd": ["one"]}' 'f:file:644:0:0:text'
	push one image:1 --dest-creds me:secret
	refused 'unauthorized|authentication' "127.0.0.1:$port/image:1"
	printf '{"auths": {"127.0.0.1:%s": {"auth": "%s"}}}' "$port" "$(printf me:secret | base64)" > auth.json
	REGISTRY_AUTH_FILE=$PWD/auth.json plan "127.0.0.1:$port/image:1"
	mkdir -p .docker
	cp auth.json .docker/config.json
	run_mayfly images prune
	plan "127.0.0.1:$port/image:1"
	assert_equal "$(of_plan 'c["command"]')" "['one']"
}

@test "image: a registry whose data are not what their digest says" {
	start_registry
	image one '{"Cmd": ["one"]}' "f:file:644:0:0:$(head -c 5000 /dev/urandom | base64 -w 0 | tr -d :)"
	push one image:1
	local blob
	blob=$(find registry -name data -size +2k)
	printf damaged | dd of="$blob" bs=1 seek=100 conv=notrunc status=none
	refused 'has failed' "127.0.0.1:$port/image:1"
	nothing_is_left
}

@test "image: a registry that ends in the middle, and one that hangs" {
	local answer=$'HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n{'
	port=$("$PYTHON" -I -S -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
	trust_registry
	"$PYTHON" -I -S -c 'import socket, sys, time
s = socket.create_server(("127.0.0.1", int(sys.argv[1])))
held = []
while True:
    c, _ = s.accept()
    c.recv(4096)
    if sys.argv[2]:
        c.sendall(sys.argv[2].encode())
        c.close()
    held.append(c)' "$port" "$answer" 3>&- &
	started+=($!)
	wait_for registry_answers
	refused 'has failed' "127.0.0.1:$port/image:1"
	kill "${started[-1]}"
	wait_for has_ended "${started[-1]}"
	"$PYTHON" -I -S -c 'import socket, sys
s = socket.create_server(("127.0.0.1", int(sys.argv[1])))
held = []
while True:
    held.append(s.accept())' "$port" 3>&- &
	started+=($!)
	wait_for registry_answers
	refused 'has failed|deadline|time' "127.0.0.1:$port/image:1" # half a minute
}

pulled_twice() { [ "$(wc -l < pulls)" -eq 2 ]; }

@test "image: two runs that want the same one pull it once; one that was killed leaves nothing for long" {
	image one '{"Cmd": ["x"]}' 'f:file:644:0:0:text'
	mkdir bin
	# umoci of the sandbox is that of /usr: what is slow is bwrap.
	printf '#!/bin/bash\n[[ " $* " != *" umoci "* ]] || { echo pull >> %s/pulls; sleep 2; }\nexec /usr/bin/bwrap "$@"\n' "$PWD" > bin/bwrap
	chmod +x bin/bwrap
	local one two
	PATH=$PWD/bin:$PATH "$MAYFLY" run --dry-run oci:oci:one > out1 2> err1 &
	one=$!
	PATH=$PWD/bin:$PATH "$MAYFLY" run --dry-run oci:oci:one > out2 2> err2 &
	two=$!
	wait "$one"
	wait "$two"
	assert_equal "$(cat pulls)" pull
	nothing_is_left
	cmp out1 out2
	run_mayfly images prune
	PATH=$PWD/bin:$PATH start_mayfly run --dry-run oci:oci:one
	wait_for pulled_twice
	kill -STOP "$pid"
	printf '#!/bin/bash\nexec /usr/bin/flock "${@/3600/0.1}"\n' > bin/flock # instead of an hour
	chmod +x bin/flock
	PATH=$PWD/bin:$PATH refused "another process has pulled it.*fuser $images/.*pull" oci:oci:one
	kill -KILL "$pid"
	wait_for has_ended "$pid"
	assert_regex "$(ls "$images")" pull
	touch -d '2 minutes ago' "$images/0-0.image.1" # of one that was killed while it wrote a name
	plan oci:oci:one
	nothing_is_left
	assert [ ! -e "$images/0-0.image.1" ]
	assert_equal "$(pgrep -f "$PWD" -l | grep -cE 'umoci|bwrap|skopeo')" 0
}

@test "image: a directory that another process cleans up meanwhile, and a program that says a lot before it fails" {
	image one '{"Cmd": ["x"]}' 'f:file:644:0:0:text'
	mkdir -p "$images" bin
	# It has the shell's number, of which the name of its directory is made.
	run bash -c 'mkdir "$0/$$.pull"; flock "$0/$$.pull" -c "echo > locked; sleep 0.5; rm -r $0/$$.pull" &
		until [ -e locked ]; do sleep 0.05; done; exec "$@"' "$images" "$MAYFLY" run --dry-run oci:oci:one
	assert_equal "$status" 0
	nothing_is_left
	printf '#!/bin/bash\nseq 100000 >&2; echo "level=fatal msg=\\"the reason\\"" >&2; exit 1\n' > bin/bwrap
	chmod +x bin/bwrap
	PATH=$PWD/bin:$PATH refused 'skopeo has failed: the reason$' --pull always oci:oci:one
}

@test "image: a program that is missing is named with its package" {
	image one '{"Cmd": ["x"]}' 'f:file:644:0:0:text'
	local program
	mkdir bin
	for program in skopeo bwrap; do
		rm -f bin/*
		ln -s /usr/bin/{skopeo,bwrap,umoci,mkfs.erofs,rm,unshare,newuidmap} bin/
		rm "bin/$program"
		run --separate-stderr env PATH="$PWD/bin" "$MAYFLY" run --dry-run oci:oci:one
		assert_equal "$status" 125
		assert_regex "$stderr" "$program is not installed .*apt install"
	done
}

@test "image: podman's storage" {
	image one '{"Cmd": ["x"]}' 'd:srv f:srv/file:640:7:8:text'
	# An ordinary user's is below $HOME; root's is the machine's.
	skopeo copy -q oci:oci:one "containers-storage:localhost/mayfly-test:$$" || skip "skopeo has no storage here"
	plan "containers-storage:localhost/mayfly-test:$$"
	skopeo delete "containers-storage:localhost/mayfly-test:$$"
	assert_equal "$(of_plan 'c["command"]')" "['x']"
	assert_regex "$(dump.erofs --path=/srv/file "$(find "$images" -name '*.erofs')")" 'Uid: 7 +Gid: 8 '
}
