"""Faults of schedulers."""

from __future__ import annotations

from attnconf.clauses import Clause
from attnconf.serving.mutants.mutant import ServingMutant

SCHEDULERS = (
    ServingMutant(
        "leak-at-abort",
        "an aborted request keeps its memory",
        Clause.PAGES,
        "scheduler",
        (
            (
                "            self.running.remove(sequence)\n            self.memory.free(request)\n        else:",
                "            self.running.remove(sequence)\n        else:",
            ),
        ),
    ),
    ServingMutant(
        "abort-stays-queued",
        "a request that is aborted while it waits stays in the queue",
        Clause.REQUESTS,
        "scheduler",
        (("            self.waiting.remove(sequence)\n", "            pass\n"),),
    ),
    ServingMutant(
        "dropped-at-reorder",
        "a change of the batch's order drops a request",
        Clause.REQUESTS,
        "scheduler",
        (("self.running[turn:] + self.running[:turn]", "self.running[turn:] + self.running[: turn - 1]"),),
    ),
    ServingMutant(
        "dropped-at-preemption",
        "a preempted request takes the place of one that waits",
        Clause.REQUESTS,
        "scheduler",
        (("        self.waiting.insert(0, sequence)", "        self.waiting[:1] = [sequence]"),),
    ),
    ServingMutant(
        "refused-in-silence",
        "a request that is too long is dropped without an end",
        Clause.REQUESTS,
        "scheduler",
        (('            self.ended.append(End(request, "refused"))\n', ""),),
    ),
    ServingMutant(
        "length-off-by-one-after-preemption",
        "a resumed request counts one token as stored that is not",
        Clause.STEPS,
        "scheduler",
        (
            (
                "            first.written = hit\n",
                "            first.written = hit + (len(first.tokens) > first.prompt)\n",
            ),
        ),
    ),
    ServingMutant(
        "length-kept-at-preemption",
        "a resumed request counts as stored what it had before",
        Clause.STEPS,
        "scheduler",
        (
            ("        sequence.written = 0\n", ""),
            ("            first.written = hit\n", "            first.written = max(hit, first.written)\n"),
        ),
    ),
    ServingMutant(
        "draft-tail-kept",
        "rejected drafts count as stored",
        Clause.DRAFTS,
        "scheduler",
        (("row.start + len(row.tokens) + max(0, len(answered) - 1)", "row.kv_len"),),
    ),
    ServingMutant(
        "bonus-token-stored",
        "the token behind the drafts counts as stored",
        Clause.STEPS,
        "scheduler",
        (("max(0, len(answered) - 1)", "len(answered)"),),
    ),
    ServingMutant(
        "planned-row-preempted",
        "for want of room the first request is preempted, whose row is already in the batch",
        Clause.STEPS,
        "scheduler",
        (("            victim = self.running[-1]\n", "            victim = self.running[0]\n"),),
    ),
    ServingMutant(
        "answer-becomes-prompt",
        "a preempted request's answer counts as its prompt, so the client gets another one",
        Clause.EVENT_ORDER,
        "scheduler",
        (
            (
                "        sequence.written = 0\n",
                "        sequence.written = 0\n        sequence.prompt = len(sequence.tokens)\n",
            ),
        ),
    ),
    ServingMutant(
        "answer-forgotten-at-preemption",
        "a preempted request begins its answer anew",
        Clause.STEPS,
        "scheduler",
        (
            (
                "        sequence.written = 0\n",
                "        sequence.written = 0\n        del sequence.tokens[sequence.prompt :]\n",
            ),
        ),
    ),
)
