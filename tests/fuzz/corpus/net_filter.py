#!/usr/bin/env python3
"""Writes the seeds of fuzz_net_filter.c into tests/fuzz/corpus/net_filter: frames of each kind, good and malformed."""
import ipaddress
import pathlib
import struct


def frame(to, protocol, payload, source="10.0.2.15", options=b"", fragment=0x4000, extra=b""):
    target, origin = ipaddress.ip_address(to), ipaddress.ip_address(source)
    ethernet = b"\x02" + bytes(5) + b"\x02" + bytes(5)
    if target.version == 6:
        header = struct.pack(">IHBB", 0x60000000, len(extra) + len(payload), protocol, 255)
        return ethernet + b"\x86\xdd" + header + origin.packed + target.packed + extra + payload
    size = 20 + len(options)
    header = struct.pack(">BBHHHBBH", 0x40 | size // 4, 0, size + len(payload), 0, fragment, 64, protocol, 0)
    return ethernet + b"\x08\x00" + header + origin.packed + target.packed + options + payload


def tcp(port, flags=2):
    return struct.pack(">HHIIBBHHH", 40000, port, 1, 0, 0x50, flags, 1024, 0, 0)


def udp(source, port):
    return struct.pack(">HHHH", source, port, 8, 0)


def alone(data):
    return b"\0" + struct.pack("<H", len(data)) + data


def after(note, data):
    return b"\1" + struct.pack("<H", len(note)) + note + struct.pack("<H", len(data)) + data


def main():
    v6 = {"source": "fd00::15"}
    ping6 = bytes([128]) + bytes(7)
    seeds = {
        "syn-open": alone(frame("192.0.2.9", 6, tcp(80))),
        "syn-closed": alone(frame("10.1.2.3", 6, tcp(22))),
        "syn-port": alone(frame("10.1.2.3", 6, tcp(80))),
        "syn-own": alone(frame("192.0.2.1", 6, tcp(80))),
        "syn-options": alone(frame("10.1.2.3", 6, tcp(22), options=bytes([1]) * 40)),
        "ack-closed": alone(frame("10.1.2.3", 6, tcp(22, 0x10))),
        "fragment": alone(frame("10.1.2.3", 17, udp(1, 2), fragment=0x2000)),
        "udp-closed": alone(frame("10.1.2.3", 17, udp(1, 2))),
        "udp-answer": after(frame("10.0.2.15", 17, udp(5353, 53), "10.1.2.3"), frame("10.1.2.3", 17, udp(53, 5353))),
        "ping": alone(frame("10.1.2.3", 1, bytes([8]) + bytes(7))),
        "arp": alone(b"\xff" * 6 + b"\x02" + bytes(5) + b"\x08\x06" + bytes(28)),
        "vlan": alone(b"\x02" + bytes(11) + b"\x81\x00\x00\x01" + frame("10.1.2.3", 6, tcp(22))[12:]),
        "syn6": alone(frame("2001:db8::1", 6, tcp(80), **v6)),
        "syn6-closed": alone(frame("fe80::1", 6, tcp(80), **v6)),
        "mapped6": alone(frame("::ffff:10.1.2.3", 6, tcp(22), **v6)),
        "nat64": alone(frame("64:ff9b::10.1.2.3", 6, tcp(22), **v6)),
        "hop-by-hop6": alone(frame("ff02::16", 0, bytes([143]) + bytes(7), extra=b"\x3a\0\5\2\0\0\1\0", **v6)),
        "ping6": alone(frame("fe80::1", 58, ping6, **v6)),
        "solicit6": alone(frame("ff02::1:ff00:2", 58, bytes([135]) + bytes(23), **v6)),
        "udp6-answer": after(frame("fd00::15", 17, udp(5353, 53), "fe80::7"), frame("fe80::7", 17, udp(53, 5353), **v6)),
    }
    out = pathlib.Path(__file__).parent / "net_filter"
    out.mkdir(exist_ok=True)
    for name, data in seeds.items():
        (out / name).write_bytes(data)


if __name__ == "__main__":
    main()
