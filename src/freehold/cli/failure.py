"""The one exception that a command raises to say no."""

from typing import Any


class CliError(Exception):
    """`code` is for programs (AWS's error name where there is one), `hint` says what to do next."""

    def __init__(
        self,
        message: str,
        *,
        code: str = "Failed",
        hint: str | None = None,
        request_id: str | None = None,
        exit_code: int = 1,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.hint = hint
        self.request_id = request_id
        self.exit_code = exit_code

    def document(self) -> dict[str, Any]:
        """The `error` object of `--json`, without the fields that are not known."""
        fields = {
            "code": self.code,
            "message": self.message,
            "hint": self.hint,
            "requestId": self.request_id,
        }
        return {name: value for name, value in fields.items() if value is not None}
