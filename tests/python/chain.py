"""Does on a chain what De-Val's miner and validator do, with bittensor 9.0.1: python tests/python/chain.py WS_URL < actions

Standard input is one JSON list of actions, `{"do": NAME, …}`; each prints one line of JSON, `{"ok": …}` or `{"raised": NAME, "text": …}`.
What De-Val does with the answers (deval/model/chain_metadata.py, deval/utils/uids.py, deval/base) is re-stated in our words.
"""

import copy
import json
import sys
import tempfile

import bittensor as bt
from bittensor.core.extrinsics.serving import get_metadata
from bittensor_wallet import Keypair, Wallet
from pydantic import BaseModel
from substrateinterface import SubstrateInterface


class Parsed(BaseModel):
    """De-Val's ChainModelMetadataParsed."""

    model_url: str | None
    model_hash: str | None
    block: int


def parsed(metadata) -> Parsed | None:
    """De-Val's parse_chain_data: whatever cannot be read is a model without url and hash, whatever has another shape raises."""
    if not metadata:
        return None
    try:
        field = metadata["info"]["fields"][0][0]
        content = field[next(iter(field.keys()))]
        found = json.loads(bytes(content[0]).decode())
    except Exception:
        found = {"model_url": None, "model_hash": None}
    found["block"] = metadata["block"]
    return Parsed(**found)


def wallet(coldkey: str, hotkey: str) -> Wallet:
    """A wallet of development keys."""
    made = Wallet(name="test", hotkey="test", path=tempfile.mkdtemp())
    made.set_coldkey(Keypair.create_from_uri(coldkey), encrypt=False, overwrite=True)
    made.set_coldkeypub(Keypair.create_from_uri(coldkey), encrypt=False, overwrite=True)
    made.set_hotkey(Keypair.create_from_uri(hotkey), encrypt=False, overwrite=True)
    return made


class Actions:
    """One method for each action."""

    def __init__(self, url: str):
        self.url = url
        self.subtensor = bt.subtensor(url)

    def register(self, coldkey: str, hotkey: str, netuid: int):
        return self.subtensor.burned_register(wallet(coldkey, hotkey), netuid)

    def commit(self, coldkey: str, hotkey: str, netuid: int, text: str):
        """As De-Val's store_model_metadata."""
        return self.subtensor.commit(wallet(coldkey, hotkey), netuid, text)

    def commit_fields(self, hotkey: str, netuid: int, fields: list):
        """Any fields, each `[variant, hex]`, which `commit` has no way to say."""
        said = [{variant: bytes.fromhex(data)} if data is not None else variant for variant, data in fields]
        call = self.subtensor.substrate.compose_call(
            call_module="Commitments",
            call_function="set_commitment",
            call_params={"netuid": netuid, "info": {"fields": [said]}},
        )
        extrinsic = self.subtensor.substrate.create_signed_extrinsic(call=call, keypair=Keypair.create_from_uri(hotkey))
        sent = self.subtensor.substrate.submit_extrinsic(extrinsic, wait_for_inclusion=True, wait_for_finalization=True)
        return sent.is_success or sent.error_message["name"]

    def read(self, hotkey: str, netuid: int):
        """As De-Val's retrieve_model_metadata, by SS58."""
        found = parsed(get_metadata(self.subtensor, netuid, hotkey))
        return found and found.model_dump()

    def serve(self, coldkey: str, hotkey: str, netuid: int, ip: str, port: int):
        """As De-Val's miner announces itself."""
        axon = bt.axon(wallet=wallet(coldkey, hotkey), port=port, ip="127.0.0.1", external_ip=ip, external_port=port)
        return self.subtensor.serve_axon(netuid=netuid, axon=axon)

    def metagraph(self, netuid: int, hotkey: str):
        """What De-Val's miner and validator read of a metagraph, after the sync that both repeat."""
        graph = self.subtensor.metagraph(netuid)
        before = copy.deepcopy(graph)
        graph.sync(subtensor=self.subtensor)
        uid = graph.hotkeys.index(hotkey)
        axon = graph.axons[uid]
        return {
            "uid": uid,
            "n": graph.n.item(),
            "uids": graph.uids.tolist(),
            "hotkeys": graph.hotkeys,
            "coldkey": axon.coldkey,
            "ip": axon.ip,
            "port": axon.port,
            "serving": [other.is_serving for other in graph.axons],
            "incentive": graph.incentive.tolist(),
            "last_update": graph.last_update.tolist(),
            "validator_permit": graph.validator_permit.tolist(),
            "stake": graph.S.tolist(),
            "logged": [float(values[uid]) for values in (graph.trust, graph.emission, graph.C, graph.D)],
            "block": graph.block.item(),
            "axons_unchanged": before.axons == graph.axons,
            "owner": self.subtensor.get_hotkey_owner(hotkey),
            "registered": self.subtensor.is_hotkey_registered(netuid=netuid, hotkey_ss58=hotkey),
            "current_block": self.subtensor.get_current_block(),
        }

    def top_incentive(self, netuid: int, lookback: int, chunks: int):
        """De-Val's fetch_historical_incentive_uids: past blocks are looked up, the incentive is always today's."""
        substrate = SubstrateInterface(url=self.url)
        block = self.subtensor.get_current_block()
        first = block - lookback
        total = [0] * 256
        for number in (int(first + chunk * lookback / chunks) for chunk in range(chunks)):
            if substrate.get_block_hash(number) is not None:
                incentives = substrate.query("SubtensorModule", "Incentive", [netuid])
                # numpy adds two vectors of one length there; a shorter one raises.
                total = [a + b.value for a, b in zip(total, incentives, strict=True)]
        return total


def main() -> None:
    bt.logging.off()
    actions = Actions(sys.argv[1])
    for action in json.load(sys.stdin):
        name = action.pop("do")
        try:
            told = {"ok": getattr(actions, name)(**action)}
        except Exception as reason:
            told = {"raised": type(reason).__name__, "text": str(reason)}
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
