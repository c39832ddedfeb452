"""Asks an axon as a De-Val validator does: with the dendrite of bittensor 9.0.1.

    python tests/python/dendrite.py IP:PORT AXON_SS58 VALIDATOR_URI

Prints one line of JSON: what the dendrite filled in.
"""

import asyncio
import json
import sys
import tempfile
from unittest import mock

import bittensor as bt
from bittensor.core.chain_data import AxonInfo
from bittensor_wallet import Keypair, Wallet


class ModelQuerySynapse(bt.Synapse):
    """De-Val's question (deval/protocol.py), in our words: two fields to fill, none hashed."""

    required_hash_fields: list = []
    repo_id: str = ""
    model_id: str = ""


async def ask(place: str, hotkey: str, validator: Keypair) -> ModelQuerySynapse:
    ip, port = place.rsplit(":", 1)
    axon = AxonInfo(version=9000001, ip=ip, port=int(port), ip_type=4, hotkey=hotkey, coldkey=hotkey)
    wallet = Wallet(name="validator", hotkey="validator", path=tempfile.mkdtemp())
    wallet.set_hotkey(validator, encrypt=False, overwrite=True)
    # A dendrite asks strangers on the Internet for its own address, only to write it into a header.
    with mock.patch("bittensor.utils.networking.get_external_ip", return_value="203.0.113.7"):
        dendrite = bt.dendrite(wallet=wallet)
    async with dendrite:
        answers = await dendrite(axons=[axon], synapse=ModelQuerySynapse(), deserialize=False, timeout=5)
    return answers[0]


def main() -> None:
    place, hotkey, uri = sys.argv[1:]
    bt.logging.off()
    answer = asyncio.run(ask(place, hotkey, Keypair.create_from_uri(uri)))
    told = {
        "bittensor": bt.__version__,
        "repo_id": answer.repo_id,
        "model_id": answer.model_id,
        "dendrite": [answer.dendrite.status_code, answer.dendrite.status_message],
        "axon": [answer.axon.status_code, answer.axon.status_message],
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
