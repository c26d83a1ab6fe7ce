"""Exceptions raised at any line of mob's own code: the role that injects them, and the lines that there are.

The source of a role, for an app of a test. `record()` begins to note the lines of mob that its loop's thread runs
through, `recorded()` returns them, and `arm(file, line, count)` raises an exception when the line is reached next.
"""

from __future__ import annotations

INJECTOR = '''
import importlib.util, os, sys, threading

HOME = os.path.dirname(importlib.util.find_spec("mob").origin)

class Injected(BaseException):
    """What is raised: no `Exception`, as what pyo3, gevent and trio raise."""

_files, _lines, _armed, _fired = {}, set(), None, []

def _name(path):
    if path not in _files:
        _files[path] = os.path.relpath(path, HOME) if path.startswith(HOME) else ""
    return _files[path]

def _is_meant(name):
    return name.startswith(("peer/", "mobster/", "wire/", "rim/", "core/"))

def _trace(frame, event, arg):
    name = _name(frame.f_code.co_filename)
    return _local if name and _is_meant(name) else None

def _local(frame, event, arg):
    global _armed
    if event == "line":
        line = _name(frame.f_code.co_filename), frame.f_lineno
        if _armed is None:
            _lines.add(line)
        elif (_armed[0], _armed[1]) == line:
            _armed[2] -= 1
            if _armed[2] <= 0:
                _armed = ["", 0, 0]
                _fired.append(line)
                sys.settrace(None)
                raise _armed_kind(f"injected at {line[0]}:{line[1]}")
    return _local

_armed_kind = Injected

def record():
    global _armed
    _armed = None
    _lines.clear()
    threading.settrace(_trace)
    sys.settrace(_trace)

def recorded():
    sys.settrace(None)
    return sorted(_lines)

def arm(file, line, count=1, kind="Injected"):
    global _armed, _armed_kind
    _armed_kind = Injected if kind == "Injected" else getattr(__builtins__, kind, None) or __builtins__[kind]
    _fired.clear()
    _armed = [file, line, count]
    sys.settrace(_trace)

def disarm():
    sys.settrace(None)
    return [f"{file}:{line}" for file, line in _fired]
'''
