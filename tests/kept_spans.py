"""A recorder that keeps the platform's own spans, for tests to look at."""

from freehold.kernel.tracing import Span


class KeptSpans:
    """Implements kernel.tracing.Recorder."""

    def __init__(self) -> None:
        self.spans: list[Span] = []

    def record(self, span: Span) -> None:
        self.spans.append(span)

    def named(self, beginning: str) -> list[Span]:
        return [span for span in self.spans if span.name.startswith(beginning)]

    def one(self, beginning: str) -> Span:
        [span] = self.named(beginning)
        return span

    def lines(self) -> list[str]:
        """Each span under its parent, indented, by start; what is not under any is at the top."""
        ids = {span.context.span_id for span in self.spans}
        roots = [span for span in self.spans if span.parent_id not in ids]
        return [line for root in self._by_start(roots) for line in self._below(root, 0)]

    def _below(self, span: Span, depth: int) -> list[str]:
        children = [each for each in self.spans if each.parent_id == span.context.span_id]
        found = [f"{'  ' * depth}{span.name}"]
        for child in self._by_start(children):
            found += self._below(child, depth + 1)
        return found

    @staticmethod
    def _by_start(spans: list[Span]) -> list[Span]:
        return sorted(spans, key=lambda span: span.started_ns)
