"""The peer of `cargo xtask bench axon`: the axon of bittensor 9.0.1 as De-Val's miner uses it.

    python ci/bench/axon.py PORT VALIDATOR_SS58

Prints `ready` when it listens, and ends with its standard input.
"""

import socket
import sys
import tempfile
import time
import typing

import bittensor as bt
from bittensor_wallet import Keypair, Wallet


class ModelQuerySynapse(bt.Synapse):
    """De-Val's question (deval/protocol.py), in our words: two fields to fill, none hashed."""

    required_hash_fields: list = []
    repo_id: str = ""
    model_id: str = ""


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def main() -> None:
    port, validator = int(sys.argv[1]), sys.argv[2]
    bt.logging.off()
    wallet = Wallet(name="bench", hotkey="bench", path=tempfile.mkdtemp())
    wallet.set_hotkey(Keypair.create_from_uri("//Alice//miner"), encrypt=False, overwrite=True)
    wallet.set_coldkeypub(Keypair.create_from_uri("//Alice"), encrypt=False, overwrite=True)

    def answer(synapse: ModelQuerySynapse) -> ModelQuerySynapse:
        synapse.repo_id, synapse.model_id = "deval-core", "base-eval"
        return synapse

    def blacklist(synapse: ModelQuerySynapse) -> typing.Tuple[bool, str]:
        known = synapse.dendrite is not None and synapse.dendrite.hotkey == validator
        return (False, "Hotkey recognized!") if known else (True, "Unrecognized hotkey")

    axon = bt.axon(wallet=wallet, port=port, ip="127.0.0.1", external_ip="127.0.0.1")
    axon.attach(forward_fn=answer, blacklist_fn=blacklist)
    axon.start()
    # It starts to listen in a thread of its own, some time later.
    while not listens(port):
        time.sleep(0.1)
    print("ready", flush=True)
    sys.stdin.read()
    axon.stop()


if __name__ == "__main__":
    main()
