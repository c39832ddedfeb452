"""A causal language model, asked by log-probability or by free generation."""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence

import torch
from transformers import DynamicCache, GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from .prompts import SYSTEM_PROMPT
from .settings import Settings
from .text import cut_middle, fill, sendable

_SPARE_TOKENS = 16
"""Room behind a prompt for the forced start of an answer."""


class LanguageModel:
    """Model and tokenizer for one request: the key/value cache it keeps between questions is freed with it."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, settings: Settings) -> None:
        self._model, self._tokenizer, self._settings = model, tokenizer, settings
        self._cache, self._cached = DynamicCache(), []
        self._started = time.monotonic()
        self._budget = self._prompt_budget()

    def _prompt_budget(self) -> int:
        limit = getattr(self._model.config, "max_position_embeddings", self._settings.max_prompt_tokens)
        room = limit - self._settings.max_new_tokens - _SPARE_TOKENS
        return max(1, min(room, self._settings.max_prompt_tokens))

    def seconds_left(self) -> float:
        """Seconds until the deadline; infinite without one."""
        limit = self._settings.deadline_seconds
        return limit - (time.monotonic() - self._started) if limit > 0 else math.inf

    def in_time(self, items: Sequence[str]) -> Iterator[str]:
        """The items as long as the deadline has not passed."""
        for item in items:
            if self.seconds_left() <= 0:
                return
            yield item

    def chat(self, template: str, fields: dict[str, str]) -> list[int]:
        """Token ids of a chat that ends where the assistant begins to speak, never longer than the budget."""
        return self._fitting(fields, lambda texts: self._encode(self._turns(fill(template, texts))))

    def plain(self, template: str, fields: dict[str, str]) -> list[int]:
        """Token ids of running text with what the tokenizer puts before a text, never longer than the budget."""
        return self._fitting(fields, lambda texts: self._tokenizer(fill(template, texts))["input_ids"])

    def choose(self, prompt: list[int], start: str, options: Sequence[str]) -> list[float]:
        """Log-probabilities of the options, normalised among themselves, when the answer is `start` + option."""
        rows = [self._encode(start + option) for option in options]
        shared = len(os.path.commonprefix(rows))
        sums = [self.log_probs([*prompt, *row[:shared]], row[shared:]).sum() for row in rows]
        return torch.log_softmax(torch.stack(sums), dim=0).tolist()

    def mean_log_prob(self, prompt: list[int], text: str) -> float:
        """Mean natural log-probability of the tokens of `text` behind `prompt`."""
        target = self._encode(sendable(text))[: self._budget]
        return self.log_probs(prompt[-max(1, self._budget - len(target)) :], target).mean().item()

    def log_probs(self, prompt: list[int], target: list[int]) -> torch.Tensor:
        """Natural log-probability of each token of a non-empty `target` behind a non-empty `prompt`.

        Only what differs from the previous call is run: the cache keeps the prefix that both share. Raises
        `ArithmeticError` when the model computes no number.
        """
        ids = [*prompt, *target[:-1]]
        kept = min(len(os.path.commonprefix([self._cached, ids])), len(prompt) - 1)
        self._cache.crop(kept)
        hidden = self._run(ids, kept)
        self._cached = ids
        logits = self._model.get_output_embeddings()(hidden[:, -len(target) :])[0].float()
        wanted = torch.tensor(target, device=logits.device).unsqueeze(1)
        found = torch.log_softmax(logits, dim=-1).gather(1, wanted).squeeze(1)
        if not found.isfinite().all():
            raise ArithmeticError("the model's log-probabilities are not finite")
        return found

    def _run(self, ids: list[int], kept: int) -> torch.Tensor:
        device = self._model.device
        output = self._model.base_model(
            input_ids=torch.tensor([ids[kept:]], device=device),
            attention_mask=torch.ones((1, len(ids)), dtype=torch.long, device=device),
            past_key_values=self._cache,
            use_cache=True,
        )
        return output.last_hidden_state

    def write(self, prompt: list[int], sample: bool) -> str:
        """What the model writes behind `prompt`: greedy, or sampled from the seed of the settings."""
        ids = torch.tensor([prompt], device=self._model.device)
        with torch.random.fork_rng(devices=[ids.device] if ids.is_cuda else []):
            torch.manual_seed(self._settings.seed)
            output = self._model.generate(
                ids, attention_mask=torch.ones_like(ids), generation_config=self._generation(sample)
            )
        return self._tokenizer.decode(output[0][len(prompt) :], skip_special_tokens=True)

    def _generation(self, sample: bool) -> GenerationConfig:
        stop = self._stop_tokens()
        seconds = self.seconds_left()
        sampling = {name: getattr(self._settings, name) for name in ("temperature", "top_p", "top_k")} if sample else {}
        return GenerationConfig(
            max_new_tokens=self._settings.max_new_tokens,
            max_time=max(seconds, 0.1) if math.isfinite(seconds) else None,
            do_sample=sample,
            eos_token_id=stop or None,
            pad_token_id=stop[0] if stop else 0,
            # An infinite logit would otherwise kill the CUDA context, and every later question with it.
            remove_invalid_values=True,
            **sampling,
        )

    def _stop_tokens(self) -> list[int]:
        stored = self._model.generation_config.eos_token_id
        stored = stored if isinstance(stored, list) else [stored]
        turn_end = self._tokenizer.get_vocab().get("<|eot_id|>")
        found = [self._tokenizer.eos_token_id, turn_end, *stored]
        return list(dict.fromkeys(token for token in found if token is not None))

    def _fitting(self, fields: dict[str, str], encode: Callable[[dict[str, str]], list[int]]) -> list[int]:
        """`encode(fields)` with the middle of the longest field shortened until it fits."""
        fields = {name: self._harmless(text) for name, text in fields.items()}
        for _ in range(8):
            ids = encode(fields)
            over = len(ids) - self._budget
            if over <= 0:
                return ids
            longest = max(fields, key=lambda name: len(fields[name]))
            fields[longest] = self._shortened(fields[longest], over)
        head = self._budget // 2
        return ids[:head] + ids[len(ids) - (self._budget - head) :]

    def _shortened(self, text: str, over: int) -> str:
        """`text` with about `over` tokens less, and a little more for the uneven length of tokens."""
        tokens = max(1, len(self._encode(text)))
        return cut_middle(text, math.floor(0.95 * len(text) * (1 - over / tokens)) - 16)

    def _harmless(self, text: str) -> str:
        """`text` in which no control token of the chat can be spoken."""
        controls = [token.content for token in self._tokenizer.added_tokens_decoder.values() if token.special]
        if not controls:
            return sendable(text)
        pattern = "|".join(re.escape(token) for token in sorted(controls, key=len, reverse=True))
        return re.sub(pattern, lambda match: f"{match[0][:1]} {match[0][1:]}", sendable(text))

    def _turns(self, user: str) -> str:
        if not self._tokenizer.chat_template:
            return f"{SYSTEM_PROMPT}\n\n{user}\n\n"
        turns = [{"role": "system", "content": SYSTEM_PROMPT}, {"role": "user", "content": user}]
        # Llama 3.2 templates print today's date unless given one: the same question has to give the same answer.
        return self._tokenizer.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=True, date_string="26 Jul 2024"
        )

    def _encode(self, text: str) -> list[int]:
        return self._tokenizer(text, add_special_tokens=False)["input_ids"]
