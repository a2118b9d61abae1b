#!/usr/bin/env bats
# The measuring harness of perf/: its adapters of monitors, with stand-ins for all of them; its results, comparisons and the
# rules of the baseline. Nothing here is measured.

load helper

# Files in place of a build, in which stand-ins are all monitors.
make_build() {
	build=$BATS_TEST_TMPDIR/build
	mkdir -p "$build/bin"
	local name
	for name in mayfly firecracker cloud-hypervisor kvmtool crosvm bin/qemu-system-x86_64; do
		ln -s "$BATS_TEST_DIRNAME/stand-in-peer" "$build/$name"
	done
	echo 'Linux version 6.0-test' > "$build/vmlinux-minimal"
	printf 'Linux version 6.0-test\nvirtio-pci\n' > "$build/vmlinux-pci"
	echo root > "$build/rootfs.ext4"
	peers=()
	for name in firecracker cloud-hypervisor kvmtool crosvm; do peers+=(--peer "$name=$build/$name"); done
}

# perf TOOL OPTION...: on this host, without tracing.
perf() {
	local tool=$1
	shift
	# shellcheck disable=SC2154 # helper sets root
	run env B="$build" PATH="$build/bin:$PATH" MAYFLY_PERF_TRACE=0 timeout -k 5 "$LIMIT" "$PYTHON" "$root/perf/$tool" "$@"
}

python() { PYTHONPATH=$root/perf "$PYTHON" -B "$@"; }

# series FILE HOST CASE MONITOR METRIC: its median.
median() {
	python -c 'import json, sys
key = dict(zip(("host", "case", "monitor", "metric"), sys.argv[2:]))
print(*[s["median"] for s in json.load(open(sys.argv[1]))["series"] if key.items() <= s.items()])' "$@"
}

# result FILE VALUE...: a result with one series, of times by the clock; COUNT=1: of the lab's.
result() {
	python -c 'import json, os, sys, schema
count = os.environ.get("COUNT")
unit, host = ("instructions", "once") if count else ("ns", "this")
program = {"path": "/m", "version": "1", "bytes": 1, "sha256": "0"}
machine = {"kernel": "k", "cpu": "c", "cpus": 1, "command_line": "", "machine": "m"}
json.dump({"format": schema.FORMAT, "version": schema.VERSION, "tool": "boot", "taken": "now", "clock": unit, "runs": 1,
	"options": {}, "hosts": {host: machine}, "programs": {"mayfly": program}, "guest_kernel": program, "commands": [],
	"notes": [], "series": [schema.series(host, "boot", "a boot", "mayfly", "total", unit, [float(v) for v in sys.argv[2:]])]},
	open(sys.argv[1], "w"))' "$@"
}

@test "perf: peers: every adapter, all results valid, one report" {
	make_build
	local tool out=$BATS_TEST_TMPDIR/out
	perf peers --wall --runs 1 --only boot,command,disk --kernel "$build/vmlinux-pci" --bzimage "$build/vmlinux-pci" \
		"${peers[@]}" --out "$out"
	assert_equal "$status" 0
	for tool in boot command disk; do
		python "$root/perf/schema.py" "$out/$tool.json"
		assert_equal "$(head -n 1 "$out/$tool.csv")" tool,host,case,monitor,metric,unit,runs,median,min,max
	done
	local monitor
	for monitor in mayfly qemu firecracker cloud-hypervisor kvmtool crosvm; do
		assert_regex "$(median "$out/boot.json" this boot "$monitor" total)" '^[0-9]+'
		assert_regex "$(median "$out/boot.json" this boot "$monitor" pss)" '^[0-9]+'
		assert_equal "$(median "$out/disk.json" this tmpfs/read1 "$monitor" elapsed)" 1000.0
		# The root's init does not end a monitor that restarts its guest.
		[ "$monitor" = cloud-hypervisor ] || assert_regex "$(median "$out/command.json" this command "$monitor" total)" '^[0-9]+'
	done
	assert_equal "$(median "$out/disk.json" this tmpfs/read1 firecracker-async elapsed)" 1000.0
	python -c 'import sys, xml.dom.minidom
text = open(sys.argv[1]).read()
assert "http" not in text.replace("http://www.w3.org/2000/svg", ""), "another file"
page = xml.dom.minidom.parseString(text.replace("<!DOCTYPE html>", "").replace("<meta charset=\"utf-8\">", ""))
print(len(page.getElementsByTagName("svg")))' "$out/report.html" > "$out/charts"
	assert_equal "$(< "$out/charts")" 2 # without tracing, a boot is not split
	assert_regex "$(< "$out/report.html")" 'cloud-hypervisor stand-in 1'
}

@test "perf: clone: each tier of each command, sizes of snapshots, a valid result" {
	make_build
	local out=$BATS_TEST_TMPDIR/clone case
	HAS_TEMPLATE=1 perf clone --wall --runs 1 --pool --root "$build/rootfs.ext4" "${peers[@]}" --json "$out.json" --csv "$out.csv" --svg "$out.svg"
	assert_equal "$status" 0
	python "$root/perf/schema.py" "$out.json"
	for case in cold/true clone/true template/true cold/python clone/python template/python; do
		assert_equal "$(median "$out.json" this "$case" mayfly answered)" 3000
		assert_equal "$(median "$out.json" this "$case" mayfly "done")" 4000
		assert_regex "$(median "$out.json" this "$case" mayfly end)" '^[0-9]+'
	done
	for case in pool/true pool/python; do
		assert_regex "$(median "$out.json" this "$case" mayfly end)" '^[1-9][0-9]+'
		assert_equal "$(median "$out.json" this "$case" mayfly answered)" '' # a claim has no time line
	done
	assert_equal "$(median "$out.json" this snapshot/1024 mayfly size)" 8192
	assert_equal "$(median "$out.json" this clone/spin mayfly first)" '' # without tracing
	assert_regex "$output" 'without tracefs'
	python -c 'import sys, xml.dom.minidom; print(len(xml.dom.minidom.parse(sys.argv[1]).getElementsByTagName("rect")) > 6)' \
		"$out.svg" > "$out.bars"
	assert_equal "$(< "$out.bars")" True
	# Without a template there is no such tier; without --root and what makes one, no python.
	perf clone --wall --runs 1 --light --root "$build/rootfs.ext4" --json "$out.json" --svg "$out.svg"
	assert_equal "$status" 0
	assert_equal "$(median "$out.json" this template/true mayfly "done")" ''
	assert_equal "$(median "$out.json" this pool/true mayfly end)" ''
	assert_equal "$(median "$out.json" this snapshot/1024 mayfly size)" ''
	rm "$build/mayfly"
	printf '#!/bin/sh\nexit 3\n' > "$build/mayfly"
	chmod +x "$build/mayfly"
	perf clone --wall --runs 1 --root "$build/rootfs.ext4" --json "$out.json"
	assert_equal "$status" 1
}

@test "perf: density: clones at once, switches of an idle pool, a valid result" {
	make_build
	local out=$BATS_TEST_TMPDIR/density
	perf density --wall --clones 1,3 --members 3 --idle 1 --json "$out.json" --csv "$out.csv" --svg "$out.svg"
	assert_equal "$status" 0
	python "$root/perf/schema.py" "$out.json"
	assert_regex "$(median "$out.json" this clones/3 mayfly total)" '^[1-9][0-9]+'
	assert_equal "$(median "$out.json" this members mayfly switches)" 0
	assert_equal "$(median "$out.json" this jails/10 mayfly total)" ''
	assert_regex "$output" 'jails and memory are not measured'
	assert_regex "$(grep -c '<rect' "$out.svg")" '^3$' # the background, and two numbers of clones
	POOL_WAKES=1 perf density --wall --clones 1 --members 2 --idle 1 --json "$out.json" --svg "$out.svg"
	assert_equal "$status" 0
	assert_regex "$(median "$out.json" this members mayfly switches)" '^[1-9][0-9]'
	run "$PYTHON" "$root/perf/density" --clones 0
	assert_equal "$status" 2
}

@test "perf: fork: boots, and the pauses that a source's log has" {
	make_build
	local out=$BATS_TEST_TMPDIR/fork
	perf fork --wall --memory 128,256 --forks 2 --json "$out.json" --csv "$out.csv" --svg "$out.svg"
	assert_equal "$status" 0
	python "$root/perf/schema.py" "$out.json"
	assert_equal "$(median "$out.json" this fork/256 mayfly pause)" 2500000.0
	assert_equal "$(median "$out.json" this fork/256 mayfly pause-again)" 4000000.0
	assert_regex "$(median "$out.json" this fork/128 mayfly forkable)" '^[1-9][0-9]+'
	assert_equal "$(grep -c '<rect' "$out.svg")" 5 # the background, and two pauses of each size
	run "$PYTHON" "$root/perf/fork" --memory 64
	assert_equal "$status" 2
}

@test "perf: tti: one by one, staggered, a burst and a rate of each tier; failures are in no time" {
	make_build
	local out=$BATS_TEST_TMPDIR/tti case
	perf tti --count 3 --seconds 0.1 --stagger 10 --jobs 2 --pool 2 --tiers cold,warm --json "$out.json" --csv "$out.csv" --svg "$out.svg"
	assert_equal "$status" 0
	python "$root/perf/schema.py" "$out.json"
	for case in {cold,warm}/{sequential,staggered,burst,sustained}; do
		assert_regex "$(median "$out.json" this "$case" mayfly p95)" '^[1-9][0-9]+$'
		[ "$(median "$out.json" this "$case" mayfly p95)" -ge "$(median "$out.json" this "$case" mayfly p50)" ]
		assert_equal "$(median "$out.json" this "$case" mayfly failed)" 0
	done
	assert_equal "$(median "$out.json" this warm/burst mayfly plain)" 0
	assert_equal "$(median "$out.json" this cold/burst mayfly plain)" ''
	assert_equal "$(python -c 'import json, sys; print(*[len(s["values"]) for s in json.load(open(sys.argv[1]))["series"]
		if s["metric"] == "tti" and s["case"] == "cold/burst"])' "$out.json")" 3
	NO_CLONES=1 perf tti --count 2 --seconds 0.1 --stagger 10 --jobs 2 --pool 2 --tiers clone,warm --json "$out.json" --svg "$out.svg"
	assert_equal "$status" 0
	assert_equal "$(median "$out.json" this clone/burst mayfly failed)" 2
	assert_equal "$(median "$out.json" this clone/burst mayfly tti)" ''
	assert_equal "$(median "$out.json" this warm/burst mayfly plain)" 2
	NO_CLONES=1 perf tti --count 1 --seconds 0.1 --stagger 10 --jobs 1 --tiers clone --json "$out.json" --svg "$out.svg"
	assert_equal "$status" 1
	perf tti --count 0
	assert_equal "$status" 2
}

@test "perf: api: an answer from exec, InstanceStart, latencies, a loaded snapshot, a valid result" {
	make_build
	local out=$BATS_TEST_TMPDIR/api case monitor
	perf api --wall --runs 1 --requests 20 "${peers[@]}" --json "$out.json" --csv "$out.csv" --svg "$out.svg"
	assert_equal "$status" 0
	python "$root/perf/schema.py" "$out.json"
	assert_equal "$(head -n 1 "$out.csv")" tool,host,case,monitor,metric,unit,runs,median,min,max
	for monitor in mayfly firecracker firecracker-open; do
		for case in socket start load; do
			assert_regex "$(median "$out.json" this "$case" "$monitor" answered)" '^[1-9][0-9]+$'
			assert_equal "$(median "$out.json" this "$case" "$monitor" first)" '' # without tracing
		done
		for case in put/idle put/io; do
			assert_regex "$(median "$out.json" this "$case" "$monitor" p50)" '^[1-9][0-9]+$'
			[ "$(median "$out.json" this "$case" "$monitor" p99)" -ge "$(median "$out.json" this "$case" "$monitor" p50)" ]
		done
	done
	assert_regex "$output" 'without tracefs'
	python -c 'import sys, xml.dom.minidom; print(len(xml.dom.minidom.parse(sys.argv[1]).getElementsByTagName("rect")))' \
		"$out.svg" > "$out.bars"
	assert_equal "$(< "$out.bars")" 5 # the background, the legend, and of each monitor the time to an answer
	# A monitor that refuses is no result: Firecracker is left out, mayfly ends the run.
	rm "$build/firecracker"
	printf '#!/bin/sh\nexit 3\n' > "$build/firecracker"
	chmod +x "$build/firecracker"
	perf api --wall --runs 1 --requests 20 --peer firecracker="$build/firecracker" --json "$out.json"
	assert_equal "$status" 0
	assert_regex "$output" 'Firecracker did not get to its end'
	assert_equal "$(median "$out.json" this socket firecracker answered)" ''
	mv "$build/firecracker" "$build/mayfly"
	perf api --wall --runs 1 --requests 20 --json "$out.json"
	assert_equal "$status" 1
}

@test "perf: live: a directory, a copy, and QEMU's where the kernel has its transport" {
	make_build
	local out=$BATS_TEST_TMPDIR/live
	cp "$build/vmlinux-minimal" "$build/vmlinux"
	perf live --wall --runs 1 --files 3 --stream 1 --json "$out.json" --csv "$out.csv" --svg "$out.svg"
	assert_equal "$status" 0
	python "$root/perf/schema.py" "$out.json"
	assert_equal "$(median "$out.json" this share/create mayfly elapsed)" 1000.0
	assert_equal "$(median "$out.json" this share/get mayfly-copy elapsed)" 1000.0
	assert_equal "$(median "$out.json" this share/get qemu elapsed)" ''
	assert_regex "$output" 'QEMU is not measured.*9P'
	printf 'Linux version 6.0-test\n9pnet_virtio\n' > "$build/vmlinux-9p"
	perf live --wall --runs 1 --files 3 --stream 1 --json "$out.json" --svg "$out.svg"
	assert_equal "$status" 0
	assert_equal "$(median "$out.json" this share/stat qemu elapsed)" 1000.0
	assert_equal "$(grep -c '<rect' "$out.svg")" 19 # the background, the legend, and 3 of each of 5
	perf live --files 0
	assert_equal "$status" 2
}

@test "perf: the lab that counts gives a guest each interrupt once, and none while it has them off" {
	local lab
	command -v qemu-system-x86_64 > /dev/null || skip "there is no qemu-system-x86_64"
	lab=$("$root/tests/lab/setup" --no-template)
	run env LD_PRELOAD="$lab/inject-once.so" qemu-system-x86_64 --version
	[[ $output != *"not known"* ]] || skip "tests/lab/inject-once.c does not know this QEMU"
	# A template that perf/ has, too.
	run env LAB_QUIET=1 timeout -k 5 300 "$root/tests/lab/lab" --icount --mem 3072 --append init_on_alloc=0 --timeout 120 -- \
		"$B/mayfly" run -k "$B/tests/guest/interrupts.elf"
	assert_regex "$output" 'each once'
}

@test "perf: a monitor that cannot be measured is left out, with the reason" {
	make_build
	NS_PER_OP=2000 perf disk --wall --runs 1 "${peers[@]}" --json "$BATS_TEST_TMPDIR/disk.json"
	assert_equal "$status" 0
	assert_regex "$output" 'Cloud Hypervisor is not measured.*PCI'
	assert_regex "$output" 'kvmtool is not measured.*--bzimage'
	assert_equal "$(median "$BATS_TEST_TMPDIR/disk.json" this tmpfs/read1 crosvm elapsed)" ''
	assert_equal "$(median "$BATS_TEST_TMPDIR/disk.json" this tmpfs/read1 firecracker elapsed)" 2000.0
	perf disk --wall --peer nobody=/bin/true
	assert_equal "$status" 2
	perf disk --wall --peer crosvm=/none
	assert_equal "$status" 1
}

@test "perf: a guest that says nothing, and a command that does not succeed, are failures" {
	make_build
	rm "$build/firecracker"
	printf '#!/bin/sh\nexit 0\n' > "$build/firecracker"
	chmod +x "$build/firecracker"
	local tool
	for tool in disk command; do
		perf "$tool" --wall --runs 1 --peer firecracker="$build/firecracker" --json "$BATS_TEST_TMPDIR/out.json"
		# mayfly and QEMU are measured all the same.
		assert_equal "$status" 0
		assert_regex "$output" 'Firecracker did not get to its end'
		python "$root/perf/schema.py" "$BATS_TEST_TMPDIR/out.json"
	done
}

@test "perf: libkrun's starter hands over what a VM is made of" {
	local dir=$BATS_TEST_TMPDIR
	cat > "$dir/krun.c" <<- 'C'
		#include <stdbool.h>
		#include <stdint.h>
		#include <stdio.h>
		int32_t krun_create_ctx(void) { return 7; }
		int32_t krun_set_vm_config(uint32_t c, uint8_t n, uint32_t m) { return printf("%u %u %u\n", c, n, m) < 0; }
		int32_t krun_set_kernel(uint32_t c, const char *k, uint32_t f, const char *i, const char *l)
		{ return printf("%u %s %u %s %s\n", c, k, f, i ? i : "none", l) < 0; }
		int32_t krun_add_disk(uint32_t c, const char *n, const char *p, bool ro) { return printf("%u %s %s %d\n", c, n, p, ro) < 0; }
		int32_t krun_add_vsock_port(uint32_t c, uint32_t p, const char *s) { return printf("%u %u %s\n", c, p, s) < 0; }
		int32_t krun_start_enter(uint32_t c) { return c == 7 ? 0 : -22; }
	C
	gcc -shared -fPIC -o "$dir/libkrun.so" "$dir/krun.c"
	gcc -std=gnu17 -Wall -Wextra -Werror -o "$dir/starter" "$root/perf/krun.c" -ldl
	run python -c 'import sys, monitors
guest = monitors.Guest(kernel="/k", mem_mib=128, cpus=2, disk="/d", vsock="/v", words="1 sync:4096:5")
print("\n".join(monitors.command_of("libkrun", {"libkrun": sys.argv[1] + "/libkrun.so"}, guest, "/")))' "$dir"
	assert_equal "$status" 0
	mapfile -t command <<< "$output"
	run "$dir/starter" "${command[@]:1}"
	assert_equal "$status" 0
	assert_line '7 2 128'
	assert_line --regexp '^7 /k 1 none .*reboot=t.* 1 sync:4096:5$'
	assert_line '7 d0 /d 0'
	assert_line '7 7003 /v_7003'
	run "$dir/starter" "$dir/none.so" "${command[@]:2}"
	assert_equal "$status" 1
}

@test "perf: devices in the command line of each adapter" {
	run python -c 'import json, tempfile
from monitors import Guest, MONITORS, command_of
with tempfile.TemporaryDirectory() as directory:
	for name, row in MONITORS.items():
		for device, options in (("disk", {"disk": "/the-disk"}), ("tap", {"tap": "the-tap"}), ("vsock", {"vsock": "/the-sock"})):
			if device in row.devices:
				guest = Guest(kernel="/k", initrd="/i", bzimage="/b", mem_mib=128, cpus=1, words="1 the-job", **options)
				text = " ".join(command_of(name, {row.program: "/bin/m"}, guest, directory))
				if "--config-file" in text:
					text += open(f"{directory}/firecracker.json").read()
				value = *options.values(),
				there = value[0] in text or (device == "vsock" and row.by == "vsock" and "3" in text)
				print(name, device, there and "the-job" in text and "/k" in text or ("/b" in text and row.bzimage))'
	assert_equal "$status" 0
	refute_output --partial False
	assert_line 'firecracker-async disk True'
	assert_line 'crosvm vsock True'
}

@test "perf: schema: what is missing, of a wrong type, or not what the values say" {
	local dir=$BATS_TEST_TMPDIR change
	result "$dir/good" 1 2 3
	python "$root/perf/schema.py" "$dir/good"
	for change in 'del r["series"][0]["unit"]' 'r["series"] = []' 'r["series"][0]["median"] = 3' 'r["series"][0]["values"] = []' \
		'r["series"][0]["values"][0] = "1"' 'r["series"].append(r["series"][0])' 'r["hosts"] = {}' 'r["clock"] = "s"' \
		'r["version"] = 2' 'del r["programs"]["mayfly"]["version"]' 'del r["guest_kernel"]["version"]' 'r["runs"] = True' 'r = []'; do
		python -c 'import json, sys; r = json.load(open(sys.argv[1])); exec(sys.argv[2]); json.dump(r, open(sys.argv[3], "w"))' \
			"$dir/good" "$change" "$dir/bad"
		run python "$root/perf/schema.py" "$dir/bad"
		assert_equal "$change: $status" "$change: 1"
		assert_regex "$output" "^$dir/bad: "
	done
}

# verdict OLD-VALUES NEW-VALUES: perf/compare's.
verdict() {
	# shellcheck disable=SC2086 # lists of numbers
	result "$BATS_TEST_TMPDIR/old" $1
	# shellcheck disable=SC2086
	result "$BATS_TEST_TMPDIR/new" $2
	run python "$root/perf/compare" --all --csv "$BATS_TEST_TMPDIR/csv" "${@:3}" "$BATS_TEST_TMPDIR/old" "$BATS_TEST_TMPDIR/new"
	sed -n '2s/.*,//p' "$BATS_TEST_TMPDIR/csv"
}

@test "perf: compare: chance is no difference" {
	assert_equal "$(verdict '10 11 12 13' '14 15 16 17')" differs # p = 2/70
	assert_equal "$(verdict '10 11 12 14' '13 15 16 17')" same # p = 4/70
	assert_equal "$(verdict '10 11 12' '14 15 16')" 'too few runs'
	assert_equal "$(verdict '5 5 5 5' '5 5 5 5')" same
	assert_equal "$(COUNT=1 verdict '1000 1001 1000' '1010 1010 1011')" differs
	assert_equal "$(COUNT=1 verdict '1000 1001 1000' '1002 1002 1002')" same
	assert_equal "$(COUNT=1 verdict '1000 1020 1000' '1010 1010 1011')" same
}

@test "perf: compare: --fail-above fails for growth alone, and only beyond the limit" {
	verdict '100 101 102 103' '110 111 112 113' --fail-above 5
	assert_equal "$status" 1
	verdict '100 101 102 103' '110 111 112 113' --fail-above 12
	assert_equal "$status" 0
	verdict '110 111 112 113' '100 101 102 103' --fail-above 5
	assert_equal "$status" 0
	result "$BATS_TEST_TMPDIR/old" 1
	COUNT=1 result "$BATS_TEST_TMPDIR/new" 1
	run python "$root/perf/compare" "$BATS_TEST_TMPDIR/old" "$BATS_TEST_TMPDIR/new"
	assert_equal "$status" 1
}

@test "perf: statistics: exact, normal and resampled figures" {
	run python -c 'import stats
print(round(stats.mann_whitney([1, 2, 3, 4], [5, 6, 7, 8]), 4), stats.mann_whitney([1, 2], [1, 2]))
a, b = list(range(30)), [x + 12 for x in range(30)]
print(stats.mann_whitney(a, b) < 0.001, 0.2 < stats.mann_whitney(a, [x + 1 for x in a]) < 1)
print(stats.ratio_interval([20, 20], [10, 10]), stats.ratio_interval([1], [0]))
low, high = stats.ratio_interval([20, 22, 21, 40], [10, 11, 10, 12])[1:]
print(low < 2 < high)'
	assert_output $'0.0286 1.0\nTrue True\n(2.0, 2.0, 2.0) None\nTrue'
}

# measured FILE KEY=VALUE...: what perf/baseline would have measured: 1000 of everything but these.
measured() {
	python -c 'import json, sys
names = ("setup", "boot", "request", "vsock_send", "vsock_receive", "packet", "pss", "binary")
found = {"figures": dict.fromkeys(names, 1000), "conditions": {"compiler": "c 1"}, "sanitized": False}
for word in sys.argv[2:]:
	key, _, value = word.partition("=")
	if key in names: found["figures"][key] = float(value)
	elif key == "sanitized": found[key] = True
	else: found["conditions"][key] = value
json.dump(found, open(sys.argv[1], "w"))' "$BATS_TEST_TMPDIR/measured" "$@"
}

baseline() {
	run "$PYTHON" "$root/perf/baseline" "$1" --file "$BATS_TEST_TMPDIR/tree/baseline.json" --measured "$BATS_TEST_TMPDIR/measured" "${@:2}"
}

commit() {
	git -C "$BATS_TEST_TMPDIR/tree" add -A
	git -C "$BATS_TEST_TMPDIR/tree" -c user.name=n -c user.email=e commit -qm change
}

@test "perf: baseline: 2 % of growth fails; other conditions are a skip with the reason" {
	mkdir "$BATS_TEST_TMPDIR/tree"
	measured
	baseline check
	assert_equal "$status" 1 # there is none
	baseline take
	measured setup=1020 boot=900
	baseline check
	assert_equal "$status" 0
	measured setup=1021
	baseline check
	assert_equal "$status" 1
	assert_line --regexp '^not ok .*: setup: '
	assert_equal "$(grep -c '^not ok' <<< "$output")" 1
	assert_line --regexp '^ok .*# skip .*git'
	measured setup=2000 compiler='c 2'
	baseline check
	assert_equal "$status" 0
	assert_line --regexp '^ok .*: setup: 2,000.* # skip .*c 1.*c 2'
	measured setup=2000 sanitized=1
	baseline check
	assert_equal "$status" 0
	assert_line --regexp '^ok .*: setup: .* # skip .*sanitizers'
	echo '{}' > "$BATS_TEST_TMPDIR/tree/baseline.json"
	baseline check
	assert_equal "$status" 1
}

@test "perf: baseline: to raise one takes a reason, a profile and a change, and not twice in a row" {
	local tree=$BATS_TEST_TMPDIR/tree
	mkdir "$tree"
	git -C "$tree" init -q
	printf 'function +100\n' > "$BATS_TEST_TMPDIR/profile"
	measured
	baseline take
	commit
	baseline check
	assert_equal "$status" 0
	# By hand, or without a reason: no.
	measured setup=1100
	baseline take
	assert_equal "$status" 1
	sed -i 's/"setup": 1000/"setup": 1100/' "$tree/baseline.json"
	baseline check
	assert_equal "$status" 1
	assert_line --regexp 'setup is raised'
	git -C "$tree" checkout -q baseline.json
	# With both, before it is committed and in a commit with a change.
	baseline take --why 'a new device' --profile "$BATS_TEST_TMPDIR/profile"
	assert_equal "$status" 0
	baseline check
	assert_equal "$status" 0
	echo change > "$tree/source"
	commit
	baseline check
	assert_equal "$status" 0
	# At once another time: no. Another figure: yes, but not alone in its commit.
	measured setup=1200
	baseline take --why again --profile "$BATS_TEST_TMPDIR/profile"
	baseline check
	assert_equal "$status" 1
	assert_line --regexp 'setup is raised twice in a row'
	git -C "$tree" checkout -q baseline.json
	measured setup=1100 pss=1100
	baseline take --why 'a page' --profile "$BATS_TEST_TMPDIR/profile"
	baseline check
	assert_equal "$status" 0
	commit
	baseline check
	assert_equal "$status" 1
	assert_line --regexp 'changes nothing else'
	# Under other conditions it begins again.
	measured setup=5000 compiler='c 2'
	baseline take
	assert_equal "$status" 0
	baseline check
	assert_equal "$status" 0
}
