"""Faults of memory managers."""

from __future__ import annotations

from attnconf.clauses import Clause
from attnconf.serving.mutants.mutant import ServingMutant

MANAGERS = (
    ServingMutant(
        "double-free",
        "a page is free as soon as one of its readers leaves",
        Clause.PAGES,
        "managers.pages",
        (
            (
                "        self.readers[page] -= 1\n        self._free_if_unused(page)",
                "        self.readers[page] = 0\n        self._free_if_unused(page)",
            ),
        ),
    ),
    ServingMutant(
        "freed-at-once",
        "a page that leaves the prefix cache is put into the free list twice",
        Clause.PAGES,
        "managers.pages",
        (
            (
                "        self.cached.discard(page)\n        self._free_if_unused(page)",
                (
                    "        self.cached.discard(page)\n"
                    "        self._free_if_unused(page)\n        self._free_if_unused(page)"
                ),
            ),
        ),
    ),
    ServingMutant(
        "hit-not-locked",
        "a prefix hit does not count as a reader",
        Clause.PAGES,
        "managers.own",
        (("            self.full.share(page)\n", ""),),
    ),
    ServingMutant(
        "sliding-hit-not-locked",
        "a prefix hit does not count as a reader in the sliding pool",
        Clause.PAGES,
        "managers.own",
        (("                self.swa.share(kept)\n", "                pass\n"),),
    ),
    ServingMutant(
        "hit-on-evicted",
        "the prefix cache still finds a page that was evicted",
        Clause.PREFIX_HITS,
        "managers.own",
        (
            (
                "                del self.cache[key]\n",
                "                self.ghosts = {**vars(self).get('ghosts', {}), key: self.cache.pop(key)}\n",
            ),
            (
                "            page = self.cache.get(self._key(tokens, place))\n",
                (
                    "            key = self._key(tokens, place)\n"
                    "            page = self.cache.get(key, vars(self).get('ghosts', {}).get(key))\n"
                ),
            ),
            (
                "        self.cache[key] = self.cache.pop(key)  #",
                "        self.cache[key] = self.cache.pop(key, vars(self).get('ghosts', {}).get(key))  #",
            ),
        ),
    ),
    ServingMutant(
        "stale-translation",
        "a page that is taken again keeps the translation of its last owner",
        Clause.PAGES,
        "managers.own",
        (
            ("            self.swa_of[page] = sliding\n", "            self.swa_of.setdefault(page, sliding)\n"),
            (
                (
                    "        if not self.swa.readers[sliding] and sliding not in self.swa.cached:\n"
                    "            self.swa_of[page] = NULL_PAGE\n"
                ),
                "",
            ),
            (
                "        return self._table(held.full, held.swa)",
                (
                    "        return self._table(held.full, [own and self.swa_of[page] for page, own "
                    "in zip(held.full, held.swa, strict=True)])"
                ),
            ),
        ),
    ),
    ServingMutant(
        "hit-without-window",
        "a prefix hit does not ask whether the sliding pool still has the window",
        Clause.PREFIX_HITS,
        "managers.own",
        (
            (
                "        return all(self.swa_of[page] != NULL_PAGE for page in needed)",
                "        return bool(needed) or True",
            ),
        ),
    ),
    ServingMutant(
        "key-of-one-page",
        "a cached page is found by its own tokens, whatever stands before them",
        Clause.PREFIX_HITS,
        "managers.own",
        (
            (
                "        return tuple(tokens[: (place + 1) * self.page_size])",
                "        return (place, *tokens[place * self.page_size : (place + 1) * self.page_size])",
            ),
        ),
    ),
    ServingMutant(
        "window-one-page-early",
        "sliding pages are given back one page too early",
        Clause.PAGES,
        "managers.own",
        (
            (
                "        for place in range(self._first_needed(written)):",
                "        for place in range(self._first_needed(written + self.page_size)):",
            ),
        ),
    ),
    ServingMutant(
        "window-one-token-early",
        "sliding pages are given back one token too early",
        Clause.PAGES,
        "managers.own",
        (
            (
                "        for place in range(self._first_needed(written)):",
                "        for place in range(self._first_needed(written + 1)):",
            ),
        ),
    ),
    ServingMutant(
        "sliding-page-leak",
        "the sliding page of an evicted page is not given back",
        Clause.PAGES,
        "managers.own",
        (
            (
                "                self._forget_swa(page, sliding)\n                self.full.forget(page)",
                "                self.full.forget(page)\n                self.swa.cached.discard(sliding)",
            ),
        ),
    ),
    ServingMutant(
        "draft-tail-lost",
        "the pages of rejected drafts leave the table and are not given back",
        Clause.PAGES,
        "managers.own",
        (("            self._leave(held.full.pop(), held.swa.pop())", "            del held.full[-1], held.swa[-1]"),),
    ),
    ServingMutant(
        "whole-prompt-hit",
        "a prefix hit may cover a whole prompt, so that no token is left to be asked",
        Clause.STEPS,
        "managers.own",
        (("        hit = self.match_prefix(tokens[:-1])", "        hit = self.match_prefix(tokens)"),),
    ),
)
