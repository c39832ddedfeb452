#!/usr/bin/env python3
"""Generates and reads likelihoods with what a miner would use instead: the peer of the generation benchmark.

usage: generate.py < REQUEST > RESULT      one JSON object each; progress goes to stderr

REQUEST  {"threads": N, "parts": [PART, …]}; the parts run in order, and the result has one entry for each.
PART     {"part": NAME, …} with
  serial      model, dtype, asks [{"system", "user"}], max_new_tokens: the reference pipeline as upstream's `_forward` asks
              (neurons/miners/model/pipeline.py): one prompt after the other, no attention mask, nothing shared; greedy.
              → seconds, prompt_tokens [N], tokens [[id]], texts [answer]
  batched     the same asks in batches of `batch`, padded on the left, greedy. → as serial
  rates       model, dtype, prompt_tokens, new_tokens, batch, repeats: a prompt of that many tokens through the model, then decoding
              with the key/value cache. → prefill and decode, tokens a second of each repeat, all rows counted
  logits      model, dtype, tokens [[id]]: → logits [[last row]]
  likelihood  model, dtype, readings [{"given", "alone", "texts"}], shared: how much likelier each text is after `given` than after
              `alone`, nats a token. With `shared` the prefix stays in the cache from text to text, as the shipped pipeline does it;
              without, every text is one forward pass of its own. → seconds, gains [[nats]]
  llama_cpp   gguf, prompt_tokens, new_tokens, repeats: one stream of llama.cpp. → as rates
dtype is "float32", "bfloat16" or "float16". Every entry also has cpu_seconds, peak_mib (of the process so far) and versions.

Needs Python 3.11 with torch 2.4.1 and transformers 4.47.1 (tests/python/requirements-pipeline.txt); llama_cpp also needs
llama-cpp-python 0.3.36, built from source (cmake and ninja come from the package registry). On CUDA, where torch has it,
the same parts run on the GPU.
"""

import json
import os
import resource
import sys
import time

REQUEST = json.load(sys.stdin)
THREADS = int(REQUEST.get("threads") or os.cpu_count())
os.environ["OMP_NUM_THREADS"] = str(THREADS)
# Spinning threads of two libraries on the same cores slow each other down many times over.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def log(text):
    print(text, file=sys.stderr, flush=True)


class Torch:
    """A model under transformers."""

    loaded = {}

    def __init__(self, path, dtype):
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        torch.set_num_threads(THREADS)
        self.torch = torch
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        started = time.perf_counter()
        self.tokenizer = AutoTokenizer.from_pretrained(path)
        self.model = AutoModelForCausalLM.from_pretrained(path, torch_dtype=getattr(torch, dtype)).to(self.device).eval()
        self.load_seconds = time.perf_counter() - started

    @classmethod
    def of(cls, part):
        key = (part["model"], part.get("dtype", "float32"))
        if key not in cls.loaded:
            cls.loaded.clear()
            cls.loaded[key] = cls(*key)
        return cls.loaded[key]

    def now(self):
        if self.device == "cuda":
            self.torch.cuda.synchronize()
        return time.perf_counter()

    def chat(self, ask):
        system = [{"role": "system", "content": ask["system"]}] if ask.get("system") else []
        turns = [*system, {"role": "user", "content": ask["user"]}]
        return self.tokenizer.apply_chat_template(turns, add_generation_prompt=True)

    def stops(self):
        known = [self.tokenizer.eos_token_id, self.tokenizer.convert_tokens_to_ids("<|eot_id|>")]
        return [token for token in known if token is not None]

    def written(self, row):
        """The ids before the first stop token; padding behind it is dropped with it."""
        stops = self.stops()
        end = next((at for at, token in enumerate(row) if token in stops), len(row))
        return row[:end]

    def ids(self, rows):
        return self.torch.tensor(rows, device=self.device)


def serial(part):
    peer = Torch.of(part)
    prompts, tokens = [], []
    started = peer.now()
    for number, ask in enumerate(part["asks"]):
        prompt = peer.chat(ask)
        with peer.torch.no_grad():
            output = peer.model.generate(
                peer.ids([prompt]),
                max_new_tokens=part["max_new_tokens"],
                eos_token_id=peer.stops(),
                pad_token_id=peer.tokenizer.eos_token_id,
                do_sample=False,
                temperature=None,
                top_p=None,
                top_k=None,
            )
        prompts.append(len(prompt))
        tokens.append(peer.written(output[0][len(prompt) :].tolist()))
        log(f"serial {number + 1}/{len(part['asks'])}: {len(prompt)} tokens, {len(tokens[-1])} new, {peer.now() - started:.1f} s")
    return answers(peer, peer.now() - started, prompts, tokens)


def batched(part):
    peer, size = Torch.of(part), part["batch"]
    padding = peer.tokenizer.eos_token_id
    prompts, tokens = [], []
    started = peer.now()
    for at in range(0, len(part["asks"]), size):
        rows = [peer.chat(ask) for ask in part["asks"][at : at + size]]
        width = max(map(len, rows))
        ids = peer.ids([[padding] * (width - len(row)) + row for row in rows])
        mask = peer.ids([[0] * (width - len(row)) + [1] * len(row) for row in rows])
        with peer.torch.no_grad():
            output = peer.model.generate(
                ids,
                attention_mask=mask,
                max_new_tokens=part["max_new_tokens"],
                eos_token_id=peer.stops(),
                pad_token_id=padding,
                do_sample=False,
                temperature=None,
                top_p=None,
                top_k=None,
            )
        prompts += map(len, rows)
        tokens += [peer.written(row[width:].tolist()) for row in output]
        log(f"batched {len(tokens)}/{len(part['asks'])}: {peer.now() - started:.1f} s")
    return answers(peer, peer.now() - started, prompts, tokens)


def answers(peer, seconds, prompts, tokens):
    texts = [peer.tokenizer.decode(row, skip_special_tokens=True) for row in tokens]
    return {
        "seconds": seconds,
        "load_seconds": peer.load_seconds,
        "prompt_tokens": prompts,
        "tokens": tokens,
        "texts": texts,
    }


def rates(part):
    from transformers import DynamicCache

    peer = Torch.of(part)
    vocabulary = peer.model.config.vocab_size
    batch, length, new = part.get("batch", 1), part["prompt_tokens"], part["new_tokens"]
    rows = [[(31 * row + 7 * at) % (vocabulary // 2) + 3 for at in range(length)] for row in range(batch)]
    result = {"prefill": [], "decode": [], "load_seconds": peer.load_seconds}
    for _ in range(part.get("repeats", 3)):
        with peer.torch.no_grad():
            started = peer.now()
            cache = DynamicCache()
            output = peer.model(input_ids=peer.ids(rows), past_key_values=cache, use_cache=True, num_logits_to_keep=1)
            prefilled = peer.now()
            for _ in range(new):
                following = output.logits[:, -1:].argmax(-1)
                output = peer.model(input_ids=following, past_key_values=cache, use_cache=True, num_logits_to_keep=1)
            ended = peer.now()
        result["prefill"].append(batch * length / (prefilled - started))
        result["decode"].append(batch * new / (ended - prefilled))
        log(f"rates {part.get('dtype')}: prefill {result['prefill'][-1]:.1f}, decode {result['decode'][-1]:.1f} tok/s")
    return result


def logits(part):
    peer = Torch.of(part)
    with peer.torch.no_grad():
        rows = [peer.model(input_ids=peer.ids([row]), num_logits_to_keep=1).logits[0, -1] for row in part["tokens"]]
    return {"logits": [row.float().tolist() for row in rows]}


def likelihood(part):
    peer = Torch.of(part)
    shared = bool(part.get("shared"))
    gains, passes = [], 0
    started = peer.now()
    for number, reading in enumerate(part["readings"]):
        given = means(peer, reading["given"], reading["texts"], shared)
        alone = means(peer, reading["alone"], reading["texts"], shared)
        gains.append([with_source - without for with_source, without in zip(given, alone)])
        passes += 2 * len(reading["texts"])
        log(f"likelihood {number + 1}/{len(part['readings'])}: {passes} passes, {peer.now() - started:.1f} s")
    return {"seconds": peer.now() - started, "load_seconds": peer.load_seconds, "gains": gains, "passes": passes}


def means(peer, prefix, texts, shared):
    """Mean log-probability of the tokens of each text behind the prefix."""
    from transformers import DynamicCache

    torch = peer.torch
    encoded = peer.tokenizer(prefix)["input_ids"]
    cache, result = DynamicCache(), []
    with torch.no_grad():
        if shared and len(encoded) > 1:
            peer.model.base_model(input_ids=peer.ids([encoded[:-1]]), past_key_values=cache, use_cache=True)
        for text in texts:
            target = peer.tokenizer(text, add_special_tokens=False)["input_ids"]
            row = [*encoded, *target[:-1]]
            if shared:
                cache.crop(len(encoded) - 1)
                mask = torch.ones((1, len(row)), dtype=torch.long, device=peer.device)
                hidden = peer.model.base_model(
                    input_ids=peer.ids([row[len(encoded) - 1 :]]), attention_mask=mask, past_key_values=cache, use_cache=True
                ).last_hidden_state
            else:
                hidden = peer.model.base_model(input_ids=peer.ids([row])).last_hidden_state
            scores = peer.model.get_output_embeddings()(hidden[:, -len(target) :])[0].float()
            found = torch.log_softmax(scores, -1).gather(1, peer.ids(target).unsqueeze(1))
            result.append(found.mean().item())
    return result


def llama_cpp(part):
    from llama_cpp import Llama

    length, new = part["prompt_tokens"], part["new_tokens"]
    peer = Llama(part["gguf"], n_ctx=length + new + 8, n_batch=512, n_threads=THREADS, n_threads_batch=THREADS, verbose=False)
    row = [(7 * at) % (peer.n_vocab() // 2) + 3 for at in range(length)]
    result = {"prefill": [], "decode": []}
    for _ in range(part.get("repeats", 3)):
        peer.reset()
        started = time.perf_counter()
        peer.eval(row)
        following = peer.sample(temp=0.0)
        prefilled = time.perf_counter()
        for _ in range(new):
            peer.eval([following])
            following = peer.sample(temp=0.0)
        ended = time.perf_counter()
        result["prefill"].append(length / (prefilled - started))
        result["decode"].append(new / (ended - prefilled))
        log(f"llama.cpp: prefill {result['prefill'][-1]:.1f}, decode {result['decode'][-1]:.1f} tok/s")
    return result


PARTS = {part.__name__: part for part in (serial, batched, rates, logits, likelihood, llama_cpp)}


def versions():
    names = ("torch", "transformers", "llama_cpp")
    return {name: sys.modules[name].__version__ for name in names if name in sys.modules}


def main():
    results = []
    for part in REQUEST["parts"]:
        before = time.process_time()
        result = PARTS[part["part"]](part)
        result["part"] = part["part"]
        result["cpu_seconds"] = time.process_time() - before
        result["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        result["versions"] = versions()
        results.append(result)
    json.dump({"threads": THREADS, "parts": results}, sys.stdout)


if __name__ == "__main__":
    main()
