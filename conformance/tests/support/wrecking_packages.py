"""Packages whose backend wrecks the process that imports, makes or asks it, each in one way, and what is said."""

from __future__ import annotations

from conformance.tests.support.broken_packages import Package, member

_IMPORTS = "import ctypes, os, signal, sys, time\n"
_DIED = "the process of backend {name}: died at its start "
_LOST = "crashed: the process died "


def _at_import(statement: str, says: str) -> Package:
    return Package(_IMPORTS + statement + "\n" + member("pass"), says)


def _asked(line: str, says: str = "") -> Package:
    return Package(_IMPORTS + member(line), says)


UNAVAILABLE = {
    "leaving": _at_import("os._exit(0)", _DIED + "(exit status 0)"),
    "sleeping": _at_import("time.sleep(3600)", "the process of backend {name}: did not start within 5 s"),
    "faulting": _at_import("ctypes.string_at(0)", _DIED + "(SIGSEGV)"),
    "shooting": _at_import("os.kill(0, signal.SIGTERM)", _DIED + "(SIGTERM)"),
    "throwing": _at_import(
        "raise type('Stop', (BaseException,), {})('no')",
        "backend {name} does not come up: RuntimeError: it raised Stop: no",
    ),
    "becoming": _at_import(
        "os.execvp('sleep', ['sleep', '3600'])",
        "the process of backend {name}: left its pipe at its start, and was ended",
    ),
    "deafening": _at_import("os.closerange(0, 1024)", _DIED + "(exit status 1)"),
    "orphaning": _at_import("os.fork() or time.sleep(3600)\nos._exit(4)", _DIED + "(exit status 4)"),
    "shouting": _at_import("os.write(1, b'x' * 20_000_000)\nos._exit(3)", _DIED + "(exit status 3): "),
    "unmaking": Package(
        _IMPORTS + member("pass").replace("return", "os._exit(5)\n    return"), _DIED + "(exit status 5)"
    ),
    "undeclaring": _asked("promises = property(lambda self: os._exit(6))", _DIED + "(exit status 6)"),
    "inventing": _asked(
        "promises = type(ReferenceBackend.promises)(dead_k=frozenset({type('Kind', (str,), {})('zero')}))",
        "backend {name} does not come up: PicklingError: ",
    ),
}
"""Backends that do not come up."""

FAILING = {
    "refusing": _asked("def supports(self, shape, platform): os._exit(3)", _LOST + "(exit status 3)"),
    "counting": _asked("def numerics(self, shape): ctypes.string_at(0)", _LOST + "(SIGSEGV)"),
    "naming": _asked(
        "def kernels(self, shape): return None",
        "crashed: in check fallback: RuntimeError: kernels returned None, and no set of names",
    ),
    "interrupting": _asked("def prepare(self, batch): raise KeyboardInterrupt", _LOST + "(exit status 1)"),
    "dozing": _asked(
        "def prepare(self, batch): signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(3600)",
        "crashed: no answer within 5 s: the process was ended",
    ),
    "skipping": _asked(
        "def prepare(self, batch): raise type('Skipped', (BaseException,), {})('later')",
        "crashed: RuntimeError: it raised Skipped: later",
    ),
}
"""Backends that come up, and end their process when they are asked."""

WORKING = {
    "talking": _at_import("print('{'); os.write(1, b'{'); print('!', file=sys.stderr)", ""),
    "setting": _at_import(
        "import torch\ntorch.set_default_dtype(torch.float64); torch.set_default_device('meta')\n"
        "torch.set_grad_enabled(False); os.environ.clear(); os.chdir('/'); sys.stdout = None",
        "",
    ),
}
"""Backends that are right, and do to their process what would disturb another's."""
