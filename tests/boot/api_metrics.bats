#!/usr/bin/env bats
# shellcheck disable=SC2030,SC2031,SC2034,SC2154 # tests are subshells; variables of helper.bash
#
# /mayfly/metrics of the API: how long requests take, and how long vCPUs wait for the host. Flat guests.

# bats file_tags=flat
load helper
load api

setup() {
	setup_api
}

teardown() { teardown_api; }

has_read() {
	talk 'GET /mayfly/metrics'
	[[ $output =~ mayfly_request_seconds_count\{kind=\"drive\",id=\"a\"\}\ [1-9] ]]
}

@test "api metrics: a histogram of the latencies of each device's requests, and the steal time of each vCPU" {
	export TRACE_ALL=1 # tests/seccomp/traced
	truncate -s 4M "$d/disk"
	"$PYTHON" -I -S "$BATS_TEST_DIRNAME/../hostile/flood" trips --rounds 100000000 > "$d/script"
	start_api
	each 204 'PUT /boot-source {"kernel_image_path":"'"$GUESTS"'/hostile.elf","initrd_path":"'"$d"'/script"}' \
		'PUT /machine-config {"vcpu_count":2,"mem_size_mib":64}' \
		'PUT /drives/a {"drive_id":"a","is_root_device":false,"path_on_host":"'"$d"'/disk"}' \
		'PUT /vsock {"guest_cid":3,"uds_path":"'"$d"'/v"}' 'PUT /actions {"action_type":"InstanceStart"}'
	wait_for has_read
	each 204 'PATCH /vm {"state":"Paused"}'
	talk 'GET /mayfly/metrics'
	end_api
	"$PYTHON" -I -S -c 'import re, sys
values, series, types = {}, {}, {}
for line in sys.argv[1].removeprefix("200 ").splitlines():
    if line.startswith("# TYPE "):
        name, kind = line.split()[2:]
        assert name not in types
        types[name] = kind
        continue
    name, labels, value = re.fullmatch(r"([a-z_]+)(\{.*\})? (\S+)", line).groups()
    labels = dict(re.findall(r"(\w+)=\"([^\"]*)\"", labels or ""))
    le = labels.pop("le", None)
    key = name, tuple(sorted(labels.items()))
    if le is None:
        values[key] = float(value)
    else:
        series.setdefault(key, []).append((float(le), int(value)))
assert types["mayfly_request_seconds"] == "histogram" and types["mayfly_steal_seconds_total"] == "counter"
def histogram(kind, id):
    labels = tuple(sorted(dict(kind=kind, id=id).items()))
    buckets = series["mayfly_request_seconds_bucket", labels]
    count, total = (values["mayfly_request_seconds_" + what, labels] for what in ("count", "sum"))
    assert buckets == sorted(buckets) and len(set(le for le, _ in buckets)) == len(buckets) > 20, buckets
    assert buckets[-1] == (float("inf"), count)
    assert buckets[0][0] < 1e-6 and buckets[-2][0] > 0.5
    # Each is at least the bound below its own, and less than its own.
    low = sum(n * le / 2 for (le, n) in zip([le for le, _ in buckets], [buckets[0][1]] + [b - a for (_, a), (_, b) in zip(buckets, buckets[1:])]) if le != float("inf"))
    assert low - buckets[0][1] * buckets[0][0] / 2 <= total * 1.001 + 1e-9, (low, total)
    return count, total
count, total = histogram("drive", "a")
requests = sum(values["mayfly_device_requests_total", tuple(sorted(dict(kind="drive", id="a", direction=way).items()))] for way in ("to_guest", "from_guest"))
assert count == requests > 0 and 0 < total < 600, (count, requests, total)
assert [histogram(**dict(labels)) for name, labels in series if ("kind", "vsock") in labels] == [(0, 0)]
steal = [values["mayfly_steal_seconds_total", (("vcpu", n),)] for n in "01"]
assert all(0 <= s < 600 for s in steal), steal' "$output"
}
