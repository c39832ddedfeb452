"""A node with the metadata of a real runtime: python tests/python/node.py METADATA SPEC NETUID HOTKEY_HEX IP PORT

It knows what an axon asks: 256 registered hotkeys, HOTKEY among them, and that HOTKEY's axon is announced at IP:PORT. It prints its
address, and takes no transaction. A line on standard input, `METADATA SPEC`, upgrades the runtime.
"""

import contextlib
import hashlib
import ipaddress
import json
import pathlib
import sys
import threading

import xxhash
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import serve

HEAD = 1000


def hashed(block: int) -> str:
    return f"0x{block:08x}" + "00" * 28


def number(block_hash: str) -> int:
    return int(block_hash[2:10], 16)


def twox128(text: str) -> bytes:
    return b"".join(xxhash.xxh64(text.encode(), seed=seed).intdigest().to_bytes(8, "little") for seed in (0, 1))


def little(value: int, size: int) -> bytes:
    return value.to_bytes(size, "little")


def entry(name: str) -> bytes:
    return twox128("SubtensorModule") + twox128(name)



class Node:
    def __init__(self, netuid: int, hotkey: bytes, ip: str, port: int):
        place = ipaddress.ip_address(ip)
        axon = little(HEAD, 8) + little(9_000_001, 4) + little(int(place), 16) + little(port, 2) + bytes([place.version, 4, 0, 0])
        of_hotkey = hashlib.blake2b(hotkey, digest_size=16).digest() + hotkey
        hotkeys = [hotkey] + [hashlib.sha256(bytes([uid])).digest() for uid in range(1, 256)]
        self.storage = {entry("Axons") + little(netuid, 2) + of_hotkey: axon}
        for uid, one in enumerate(hotkeys):
            self.storage[entry("Keys") + little(netuid, 2) + little(uid, 2)] = one

    def upgrade(self, metadata: str, spec: str):
        self.spec, self.metadata = int(spec), pathlib.Path(metadata).read_bytes()

    def value(self, key: str):
        value = self.storage.get(bytes.fromhex(key[2:]))
        return value and "0x" + value.hex()

    def call(self, name: str) -> bytes:
        if name == "Core_version":
            named = bytes([14 << 2]) + b"node-subtensor"
            return named + named + little(1, 4) + little(self.spec, 4) + little(1, 4) + b"\0" + little(1, 4)
        if name == "Metadata_metadata_versions":
            return bytes([1 << 2]) + little(16, 4)
        if name == "Metadata_metadata_at_version":
            # An option of bytes, whose length is a compact number of four bytes.
            return b"\1" + little(len(self.metadata) << 2 | 2, 4) + self.metadata
        raise KeyError(name)

    def answer(self, method: str, params: list):
        if method == "chain_getBlockHash":
            return hashed(params[0]) if params else hashed(HEAD)
        if method == "chain_getFinalizedHead":
            return hashed(HEAD)
        if method == "chain_getHeader":
            zeros = "0x" + "00" * 32
            block = number(params[0]) if params else HEAD
            return {"parentHash": zeros, "number": hex(block), "stateRoot": zeros, "extrinsicsRoot": zeros, "digest": {"logs": []}}
        if method == "state_getRuntimeVersion":
            return {"specVersion": self.spec, "transactionVersion": 1}
        if method == "state_getStorage":
            return self.value(params[0])
        if method == "state_getKeysPaged":
            prefix, count, after = bytes.fromhex(params[0][2:]), params[1], (params[2:] or [None])[0]
            after = bytes.fromhex(after[2:]) if after else b""
            keys = sorted(key for key in self.storage if key.startswith(prefix) and key > after)
            return ["0x" + key.hex() for key in keys[:count]]
        if method == "state_queryStorageAt":
            return [{"block": hashed(HEAD), "changes": [[key, self.value(key)] for key in params[0]]}]
        if method == "state_call":
            return "0x" + self.call(params[0]).hex()
        raise KeyError(method)

    def talk(self, socket):
        with contextlib.suppress(ConnectionClosed):
            self.answer_all(socket)

    def answer_all(self, socket):
        for message in socket:
            asked = json.loads(message)
            answer = {"jsonrpc": "2.0", "id": asked["id"]}
            try:
                answer["result"] = self.answer(asked["method"], asked.get("params") or [])
            except KeyError as unknown:
                print(f"unknown: {unknown}", file=sys.stderr, flush=True)
                answer["error"] = {"code": -32601, "message": "Method not found"}
            socket.send(json.dumps(answer))


def main():
    metadata, spec, netuid, hotkey, ip, port = sys.argv[1:]
    node = Node(int(netuid), bytes.fromhex(hotkey), ip, int(port))
    node.upgrade(metadata, spec)
    with serve(node.talk, "127.0.0.1", 0, max_size=None, compression=None) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print(f"ws://127.0.0.1:{server.socket.getsockname()[1]}", flush=True)
        for line in sys.stdin:
            node.upgrade(*line.split())


main()
