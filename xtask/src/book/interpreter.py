"""Runs blocks of Python as a notebook does.

A block is the lines of standard input up to one with the character END. What it prints goes to standard output, then the value
of its last line if that is an expression, then a line with END. Names stay for the next block.
"""

import ast
import sys
import traceback

END = "\x1e"


def run(code, names):
    """Runs a block, and prints the value of a last expression."""
    tree = ast.parse(code)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "block", "exec"), names)
    if last is not None:
        value = eval(compile(ast.Expression(last.value), "block", "eval"), names)
        if value is not None:
            print(repr(value))


def main():
    sys.stderr = sys.stdout
    names = {"__name__": "__main__"}
    lines = []
    for line in sys.stdin:
        if line.rstrip("\n") != END:
            lines.append(line)
            continue
        try:
            run("".join(lines), names)
        except Exception as error:
            print("".join(traceback.format_exception_only(error)), end="")
        lines = []
        print(END, flush=True)


main()
