"""A second opinion: cvc5 on a question in SMT-LIB."""

import re

import cvc5

MILLISECONDS_MAX = 2_000

_CHARACTER = re.compile(r"\(seq\.unit \(_ Char (\d+)\)\)")
"""How z3 writes a string of one character, which is no SMT-LIB."""


class NotUnderstood(Exception):
    """cvc5 cannot read the question, or has not the theory."""


def cvc5_says(question: str, *, milliseconds: int = MILLISECONDS_MAX) -> str:
    """`sat`, `unsat` or `unknown`. The question ends with, or lacks, its check-sat."""
    solver = cvc5.Solver(cvc5.TermManager())
    solver.setOption("tlimit-per", str(milliseconds))
    solver.setOption("strings-exp", "true")
    question = _CHARACTER.sub(lambda found: f'"\\u{{{int(found[1]):x}}}"', question)
    parser = cvc5.InputParser(solver)
    if "(set-logic" not in question:
        question = "(set-logic ALL)\n" + question
    if "(check-sat)" not in question:
        question += "\n(check-sat)\n"
    parser.setStringInput(cvc5.InputLanguage.SMT_LIB_2_6, question, "question")
    symbols = parser.getSymbolManager()
    said = ""
    try:
        while not (command := parser.nextCommand()).isNull():
            said += str(command.invoke(solver, symbols))
    except RuntimeError as error:
        raise NotUnderstood(str(error)) from error
    for answer in ("unsat", "sat", "unknown"):
        if answer in said.split():
            return answer
    raise NotUnderstood(said)
