"""How large sources are once compiled, or where they do not compile: measure.py FILE…, a JSON list in the same order."""

import json
import marshal
import sys
import types


def count(code):
    return 1 + sum(count(inner) for inner in code.co_consts if isinstance(inner, types.CodeType))


def measure(path):
    try:
        with open(path, "rb") as file:
            code = compile(file.read(), path, "exec", dont_inherit=True)
        return {"bytes": len(marshal.dumps(code)), "codes": count(code)}
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        message = getattr(error, "msg", None) or str(error) or type(error).__name__
        return {"message": message, "line": getattr(error, "lineno", None), "column": getattr(error, "offset", None)}


print(json.dumps([measure(path) for path in sys.argv[1:]]))
