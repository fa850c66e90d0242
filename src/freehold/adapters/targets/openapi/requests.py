"""From a plan and arguments to a request. The arguments conform to the tool's input schema."""

import re
from typing import Any

from freehold.adapters.targets.openapi import styles
from freehold.adapters.targets.openapi.bodies import body
from freehold.adapters.targets.openapi.plan import ParameterPlan, Plan
from freehold.adapters.targets.openapi.styles import BadArgument
from freehold.adapters.targets.sending import HttpCall

_PATH_PIECE = re.compile(r"(\{[^{}]*\})")
_WAY_UP = re.compile(r"/\.{1,2}(?=[/;]|$)")


class Requests:
    """One operation's, with what is the same for each request done once."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._by_path = {p.name: p for p in plan.parameters if p.place == "path"}
        self._others = tuple(p for p in plan.parameters if p.place != "path")
        self._pieces = tuple(piece for piece in _PATH_PIECE.split(plan.path) if piece)

    def call(self, arguments: dict[str, Any]) -> HttpCall:
        """Raises BadArgument."""
        try:
            return self._call(arguments)
        except UnicodeEncodeError:
            raise BadArgument("A text has half of a surrogate pair in it, which is none.") from None

    def _call(self, arguments: dict[str, Any]) -> HttpCall:
        plan = self.plan
        query = [plan.query] if plan.query else []
        headers, cookies = {"accept": plan.accept}, []
        for parameter in self._others:
            value = arguments.get(parameter.argument)
            if value is None:
                continue
            if parameter.place == "query":
                query += styles.in_query(parameter, value)
            elif parameter.place == "header":
                headers[parameter.name.lower()] = styles.in_header(parameter, value)
            else:
                cookies += styles.in_cookie(parameter, value)
        if cookies:
            headers["cookie"] = "; ".join(cookies)
        content = None
        if plan.body is not None:
            made = body(plan.body, arguments)
            if made is not None:
                content, headers["content-type"] = made
        path = "".join([self._filled(piece, arguments) for piece in self._pieces])
        if "/." in path and _WAY_UP.search(path):
            raise BadArgument('The arguments make "." or ".." of a part of the path.')
        url = self._server(arguments) + path
        if query:
            url = f"{url}?{'&'.join(query)}"
        return HttpCall(method=plan.method, url=url, headers=headers, body=content)

    def _server(self, arguments: dict[str, Any]) -> str:
        server = self.plan.server
        for variable in self.plan.variables:
            value = styles.text(arguments.get(variable.argument, variable.default))
            if value not in variable.choices:  # the host must never be an argument's to choose
                raise BadArgument(
                    f'The argument "{variable.argument}" must be one of: '
                    f"{', '.join(variable.choices)}."
                )
            server = server.replace("{" + variable.name + "}", value)
        return server

    def _filled(self, piece: str, arguments: dict[str, Any]) -> str:
        if piece[0] != "{":
            return piece
        parameter: ParameterPlan = self._by_path[piece[1:-1]]
        value = arguments.get(parameter.argument)
        if value is None:
            raise BadArgument(f'The argument "{parameter.argument}" is missing.')
        return styles.in_path(parameter, value)
